"""Nodes: one op with its inputs, weights, attributes and outputs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lepton_ai.graph.attrs import ActivatedLinearAttrs, Attrs, LinearAttrs, Segment
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


def segment_weights(node: Node) -> Iterator[tuple[Segment, Weight, Weight | None]]:
    """Each segment of a product (``linear`` and its kin) with its matrix and its bias, in order."""
    assert isinstance(node.attrs, LinearAttrs | ActivatedLinearAttrs), f"{node.name}: {node.op} has no segments"
    weights = iter(node.weights)
    for segment in node.attrs.segments:
        matrix = next(weights)
        yield segment, matrix, next(weights) if segment.has_bias else None
