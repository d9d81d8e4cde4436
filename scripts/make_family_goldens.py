"""Make the goldens of tests/parity/test_families.py: what ``transformers`` computes of small random checkpoints.

Needs the environment of bench/parity-requirements.txt; run it from the root of the repository:

    python -m scripts.make_family_goldens [CASE ...]

The cases stand in tests/parity/families.py. In f64 every operation is f64, those included that the library does in f32.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import MethodType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import transformers
from tests.parity.families import CASES, Case, FamilyGolden, random_weights, token_ids, token_type_ids, write_golden


def main() -> None:
    """Write the goldens of the cases that are named, or of all."""
    wanted = sys.argv[1:]
    for case in CASES:
        if not wanted or case.name in wanted:
            golden = make_golden(case)
            write_golden(case.name, golden)
            print(f"{case.name}: f32 error {golden.f32_error:.2e}, outputs {golden.outputs.std():.2f}")


def make_golden(case: Case) -> FamilyGolden:
    """Run a case in f64 and in f32."""
    wide = _model(case, torch.float64)
    shapes = {name: list(tensor.shape) for name, tensor in _stored(wide).items()}
    outputs = _outputs(wide, case, shapes)
    narrow = _outputs(_model(case, torch.float32), case, shapes)
    return FamilyGolden(shapes, outputs, float(np.sqrt(np.mean(np.square(narrow - outputs)))))


def _model(case: Case, dtype: torch.dtype) -> torch.nn.Module:
    config = transformers.AutoConfig.for_model(**_with_numbers(case.config))
    model = _kind(case).from_config(config, dtype=dtype, attn_implementation="eager")
    if dtype is torch.float64:
        _widen(model)
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


def _outputs(model: torch.nn.Module, case: Case, shapes: dict[str, list[int]]) -> npt.NDArray[np.float64]:
    stored = _stored(model)
    for name, values in random_weights(case.name, shapes).items():
        stored[name].copy_(torch.from_numpy(values))
    ids = torch.from_numpy(token_ids(case.name))[None].long()
    types = token_type_ids(case)
    options = {} if types is None else {"token_type_ids": torch.from_numpy(types)[None].long()}
    made = model(ids, **options)
    first = made.last_hidden_state if case.head == "hidden_states" else made.logits
    outputs: npt.NDArray[np.float64] = first[0].double().numpy()
    return outputs


def _widen(model: torch.nn.Module) -> None:
    for module in model.modules():
        kind = type(module).__name__
        if kind.endswith("RMSNorm"):
            module.forward = MethodType(_rms_norm, module)
        elif kind.endswith("RotaryEmbedding"):
            module.forward = MethodType(_rotary, module)


def _rms_norm(module: torch.nn.Module, hidden_states: torch.Tensor) -> torch.Tensor:
    is_gemma = type(module).__name__.startswith("Gemma")
    eps, weight = (module.eps, 1 + module.weight) if is_gemma else (module.variance_epsilon, module.weight)
    return weight * (hidden_states * torch.rsqrt(hidden_states.pow(2).mean(-1, keepdim=True) + eps))


def _rotary(
    module: torch.nn.Module, x: torch.Tensor, position_ids: torch.Tensor, layer_type: str | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The frequencies are the model's own, in f32; angles, cosines and sines are f64."""
    prefix = "" if layer_type is None else f"{layer_type}_"
    angles = position_ids[..., None].double() * getattr(module, f"{prefix}inv_freq").double()
    angles = torch.cat((angles, angles), dim=-1)
    scale = getattr(module, f"{prefix}attention_scaling")
    return (angles.cos() * scale).to(x.dtype), (angles.sin() * scale).to(x.dtype)


if __name__ == "__main__":
    main()
