"""Nodes: one op with its inputs, weights, attributes and outputs."""

from __future__ import annotations

from dataclasses import dataclass

from lepton_ai.graph.attrs import Attrs
from lepton_ai.graph.tensor import Tensor, Weight


@dataclass(frozen=True, slots=True)
class Node:
    """One application of an op. ``op`` is a key of ``ops.CONTRACTS``; ``attrs`` has the class that it names."""

    op: str
    name: str
    inputs: tuple[Tensor, ...]
    weights: tuple[Weight, ...]
    attrs: Attrs
    outputs: tuple[Tensor, ...]
