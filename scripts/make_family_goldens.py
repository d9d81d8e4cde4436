"""Make the goldens of tests/parity/test_families.py: what ``transformers`` computes of small random checkpoints.

Needs the environment of bench/parity-requirements.txt; run it from the root of the repository:

    python -m scripts.make_family_goldens [CASE ...]
    python -m scripts.make_family_goldens --output FOLDER SHAPE ...

The cases stand in tests/parity/families.py, the published shapes, which are too large to be kept, in published.py. In
f64 every operation is f64, those included that the library does in f32.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import transformers
from scripts.widen import widen
from tests.parity import published
from tests.parity.families import (
    CASES,
    FOLDER,
    NUM_TOKENS,
    Case,
    FamilyGolden,
    random_weights,
    token_ids,
    token_type_ids,
    write_golden,
)


def main() -> None:
    """Write the goldens of what is named, or of all cases."""
    parser = argparse.ArgumentParser(description="Make the goldens of random checkpoints.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="a case, or a published shape")
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder of the goldens")
    arguments = parser.parse_args()
    small = {case.name: (case, NUM_TOKENS) for case in CASES}
    known = {**small, **{shape.name: (shape.case, published.NUM_TOKENS) for shape in published.SHAPES}}
    for name in arguments.names or small:
        golden = make_golden(*known[name])
        write_golden(name, golden, arguments.output)
        print(f"{name}: f32 error {golden.f32_error:.2e}, outputs {golden.outputs.std():.2f}")


def make_golden(case: Case, num_tokens: int) -> FamilyGolden:
    """Run a model in f64, then in f32."""
    model = _model(case, torch.float64)
    shapes = {name: list(tensor.shape) for name, tensor in _stored(model).items()}
    wide = _outputs(model, case, shapes, num_tokens)
    del model
    narrow = _outputs(_model(case, torch.float32), case, shapes, num_tokens)
    return FamilyGolden(shapes, wide, float(np.sqrt(np.mean(np.square(narrow - wide)))))


def _model(case: Case, dtype: torch.dtype) -> torch.nn.Module:
    config = transformers.AutoConfig.for_model(**_with_numbers(case.config))
    model: torch.nn.Module = _kind(case).from_config(config, dtype=dtype, attn_implementation="eager")
    if dtype is torch.float64:
        widen(model)
    return model.eval().requires_grad_(False)


def _with_numbers(config: Mapping[str, object]) -> dict[str, object]:
    """The configuration as the library reads it: from JSON it turns the keys of labels into numbers."""
    labels = config.get("id2label")
    numbered = {int(i): label for i, label in labels.items()} if isinstance(labels, dict) else None
    return {**config, "id2label": numbered} if numbered else {**config}


def _kind(case: Case) -> Any:
    """The class of the library that has the case's head."""
    if case.head is None:
        return transformers.AutoModelForCausalLM
    if case.head == "hidden_states":
        return transformers.AutoModel
    if "TokenClassification" in str(case.config["architectures"]):
        return transformers.AutoModelForTokenClassification
    return transformers.AutoModelForSequenceClassification


def _stored(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """What a checkpoint holds: of tied tensors, the first."""
    first: dict[int, str] = {}
    state = model.state_dict(keep_vars=True)
    return {name: tensor for name, tensor in state.items() if first.setdefault(id(tensor), name) == name}


def _outputs(
    model: torch.nn.Module, case: Case, shapes: Mapping[str, Sequence[int]], num_tokens: int
) -> npt.NDArray[np.float64]:
    stored = _stored(model)
    for name, size in shapes.items():  # one at a time: a published shape fills the memory as it is
        stored[name].copy_(torch.from_numpy(random_weights(case.name, {name: size})[name]))
    types = token_type_ids(case, num_tokens)
    options = {} if types is None else {"token_type_ids": torch.from_numpy(types)[None].long()}
    made = model(torch.from_numpy(token_ids(case, num_tokens))[None].long(), **options)
    first = made.last_hidden_state if case.head == "hidden_states" else made.logits
    outputs: npt.NDArray[np.float64] = first[0].double().numpy()
    return outputs


if __name__ == "__main__":
    main()
