"""Layers that forwards are made of, with their weights named after them."""

from __future__ import annotations

from lepton_ai.graph import ops
from lepton_ai.graph.tensor import Weight
from lepton_ai.graph.trace import Value


def linear(x: Value, name: str, num_outputs: int, *, has_bias: bool = False, weight: str | None = None) -> Value:
    """``x`` ``[..., C]`` times the matrix ``<name>.weight`` ``(num_outputs, C)``, plus ``<name>.bias`` if it has one.

    ``weight``: what the weights are called where that is not ``name``.
    """
    num_inputs, weight = x.shape[-1], weight or name
    assert isinstance(num_inputs, int)
    bias = Weight(f"{weight}.bias", (num_outputs,)) if has_bias else None
    return ops.linear(x, Weight(f"{weight}.weight", (num_outputs, num_inputs)), name=name, bias=bias)
