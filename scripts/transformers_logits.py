"""Logits of ``transformers`` for given ids, in f64, from a GGUF file, and how far its f32 is off.

Needs the environment of bench/parity-requirements.txt; run it from the root of the repository:

    python -m scripts.transformers_logits --model FILE --input IDS.npz --output FILE.npz

The input holds ``ids`` ``[T]`` and the wanted ``rows`` ``[N]``; the output ``logits`` ``[N, V]`` f64, and ``[N]``
``f32_errors``, the root mean square over each row.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from scripts.gguf_to_transformers import load_model


def main() -> None:
    """Parse the arguments, compute, write."""
    parser = argparse.ArgumentParser(description="Logits of transformers from a GGUF file.")
    for name in ("model", "input", "output"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    arguments = parser.parse_args()
    with np.load(arguments.input) as wanted:
        ids, rows = torch.from_numpy(wanted["ids"]).long(), torch.from_numpy(wanted["rows"]).long()
    logits, narrow = (
        load_model(arguments.model, dtype)(ids[None], logits_to_keep=rows).logits[0].double()
        for dtype in (torch.float64, torch.float32)
    )
    errors = (narrow - logits).square_().mean(dim=1).sqrt_()
    np.savez(arguments.output, logits=logits.numpy(), f32_errors=errors.numpy())


if __name__ == "__main__":
    main()
