"""Make the goldens of tests/parity/test_embeddings.py: vectors of sentences by ``transformers``, in f64 and f32.

Needs the environment of bench/parity-requirements.txt; run it from the root of the repository with the models' folders:

    python -m scripts.make_embedding_goldens minilm=FOLDER mpnet=FOLDER

Both models take the mean of the tokens and scale it to length 1, as their folders declare.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import transformers
from tests.parity.embeddings import SENTENCES, EmbeddingGolden, write_golden


def main() -> None:
    """Write the golden of each model that is named."""
    for argument in sys.argv[1:]:
        name, _, folder = argument.partition("=")
        golden = make_golden(Path(folder))
        write_golden(name, golden)
        error = np.abs(golden.vectors_f32 - golden.vectors).max()
        print(f"{name}: {golden.vectors.shape}, f32 is off by {error:.1e}")


def make_golden(folder: Path) -> EmbeddingGolden:
    """Run each sentence alone, so that no padding takes part."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ids = [tokenizer(sentence)["input_ids"] for sentence in SENTENCES]
    wide, narrow = (_vectors(folder, ids, dtype) for dtype in (torch.float64, torch.float32))
    return EmbeddingGolden(ids, wide.astype(np.float64), narrow.astype(np.float32))


def _vectors(folder: Path, ids: list[list[int]], dtype: torch.dtype) -> npt.NDArray[np.floating]:
    model = transformers.AutoModel.from_pretrained(folder, dtype=dtype, attn_implementation="eager").eval()
    rows = []
    with torch.no_grad():
        for each in ids:
            mean = model(torch.tensor([each])).last_hidden_state[0].mean(0)
            rows.append((mean / mean.norm()).numpy())
    return np.stack(rows)


if __name__ == "__main__":
    main()
