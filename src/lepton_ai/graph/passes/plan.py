"""The planning pass: program order, lifetimes, and one activation arena.

Offsets are chosen greedily by size (largest buffer first, at the lowest offset where no buffer with an overlapping
lifetime lies), as in Pisarchyk & Lee 2020, "Efficient Memory Management for Deep Neural Net Inference".
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from lepton_ai.config import Limits
from lepton_ai.graph.graph import Graph
from lepton_ai.graph.node import Node
from lepton_ai.graph.passes.precision import StorageType
from lepton_ai.graph.tensor import (
    ROW_ALIGNMENT,
    Tensor,
    evaluate_shape,
    format_shape,
    round_up,
    row_bytes,
)


@dataclass(frozen=True, slots=True)
class Buffer:
    """Where a tensor lies in the arena, in bytes, at the limits' sizes.

    ``row_bytes`` is the distance between rows (the last axis) of a tensor of two or more axes; a tensor of one axis is
    contiguous and has its element size here.
    """

    offset: int
    num_bytes: int
    row_bytes: int


@dataclass(frozen=True, slots=True)
class Plan:
    """A lowered graph with a place for each of its tensors.

    ``buffers`` maps the id of every tensor that a node makes; inputs of the graph are not in the arena. ``results``
    are the graph's outputs, then the taps: they hold their values when the step ends.
    """

    graph: Graph
    limits: Limits
    buffers: Mapping[int, Buffer]
    arena_bytes: int
    results: tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class _Span:
    """A buffer before it has a place: the tensors that share it, made at node ``first``, last read at ``last``."""

    tensor_ids: tuple[int, ...]
    num_bytes: int
    first: int
    last: int


def symbol_sizes(limits: Limits) -> dict[str, int]:
    """The largest value of each symbol that a shape may hold."""
    return {"T": limits.max_tokens, "R": limits.max_rows, "S": limits.max_seqs}


def plan(graph: Graph, limits: Limits, taps: Sequence[str] = ()) -> Plan:
    """Give each tensor of ``graph`` a 64-byte aligned buffer; tensors that are alive together never overlap.

    Outputs and ``taps`` live to the end. Raises InvalidRequest for a tap that names no tensor.
    """
    results = list(graph.outputs)
    for name in taps:
        tensor = graph.tensor(name)
        if tensor not in results:
            results.append(tensor)
    spans = _spans(graph, limits, {t.id for t in results})
    offsets = _place(spans, len(graph.nodes))
    tensors = {t.id: t for node in graph.nodes for t in node.outputs}
    buffers = {
        tensor_id: Buffer(offset, *_layout(tensors[tensor_id], limits))
        for span, offset in zip(spans, offsets, strict=True)
        for tensor_id in span.tensor_ids
    }
    arena_bytes = max((o + s.num_bytes for s, o in zip(spans, offsets, strict=True)), default=0)
    return Plan(graph, limits, buffers, arena_bytes, tuple(results))


def _layout(tensor: Tensor, limits: Limits) -> tuple[int, int]:
    """Bytes in all, and bytes per row."""
    shape = evaluate_shape(tensor.shape, symbol_sizes(limits))
    if len(shape) == 1:
        return round_up(shape[0] * tensor.dtype.itemsize, ROW_ALIGNMENT), tensor.dtype.itemsize
    stride = row_bytes(tensor.dtype, shape[-1])
    return prod(shape[:-1]) * stride, stride


def lifetimes(graph: Graph, held: Collection[int] = ()) -> dict[int, tuple[int, int]]:
    """Tensor id -> (index of the node that makes it, of the last that reads it); ids in ``held`` live to the end."""
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for index, node in enumerate(graph.nodes):
        last.update((t.id, index) for t in (*node.inputs, *node.outputs))
        first.update((t.id, index) for t in node.outputs)
    end = len(graph.nodes)
    return {i: (made, end if i in held else last[i]) for i, made in first.items()}


def _spans(graph: Graph, limits: Limits, held: Collection[int]) -> list[_Span]:
    """One span for each buffer: a tensor of its own, or a chain of in-place results."""
    life = lifetimes(graph, held)
    spans: dict[int, _Span] = {}
    root: dict[int, int] = {}
    for index, node in enumerate(graph.nodes):
        donor = _donor(node, index, life)
        for tensor in node.outputs:
            first, last = life[tensor.id]
            num_bytes, _ = _layout(tensor, limits)
            if donor is not None and tensor == node.outputs[0]:
                head = root[donor.id]
                span = spans[head]
                spans[head] = _Span((*span.tensor_ids, tensor.id), span.num_bytes, span.first, last)
            else:
                head = tensor.id
                spans[head] = _Span((tensor.id,), num_bytes, first, last)
            root[tensor.id] = head
    return list(spans.values())


def _donor(node: Node, index: int, life: Mapping[int, tuple[int, int]]) -> Tensor | None:
    """The input whose buffer the first output takes: in elementwise ops, one that is read here for the last time."""
    if node.op not in ("add", "add_norm", "activate", "gated", "l2_normalize"):
        return None
    target = node.outputs[0]
    for tensor in node.inputs:
        is_dying = tensor.id in life and life[tensor.id][1] == index
        if is_dying and tensor.shape == target.shape and tensor.dtype == target.dtype:
            return tensor
    return None


def _place(spans: Sequence[_Span], num_nodes: int) -> list[int]:
    """An offset for each span. The time is that of the sum of lifetimes: a model's buffers live for a few nodes."""
    offsets = [0] * len(spans)
    placed_at: list[list[int]] = [[] for _ in range(num_nodes + 1)]
    for index in sorted(range(len(spans)), key=lambda i: (-spans[i].num_bytes, i)):
        span = spans[index]
        lifetime = range(span.first, span.last + 1)
        rivals = {other for node in lifetime for other in placed_at[node]}
        offset = 0
        for start, end in sorted((offsets[i], offsets[i] + spans[i].num_bytes) for i in rivals):
            if offset + span.num_bytes <= start:
                break
            offset = max(offset, end)
        offsets[index] = offset
        for node in lifetime:
            placed_at[node].append(index)
    return offsets


@dataclass(frozen=True, slots=True)
class PlanRow:
    """One line of ``lepton inspect --graph``: a tensor that a node makes. ``weights`` stand on its first line."""

    op: str
    name: str
    shape: str
    dtype: str
    inputs: tuple[str, ...]
    weights: tuple[str, ...]
    offset: int
    num_bytes: int


def format_plan(plan: Plan, weight_types: Mapping[str, StorageType]) -> tuple[PlanRow, ...]:
    """The program in order, one row for each tensor made. Weights read ``name (shape) type``."""
    rows: list[PlanRow] = []
    for node in plan.graph.nodes:
        inputs = tuple(f"{t.name} {format_shape(t.shape)} {t.dtype.value}" for t in node.inputs)
        weights = tuple(f"{w.name} {w.shape} {weight_types[w.name].value}" for w in node.weights)
        for index, tensor in enumerate(node.outputs):
            buffer = plan.buffers[tensor.id]
            shape = format_shape(tensor.shape)
            shown = (inputs, weights) if index == 0 else ((), ())
            rows.append(
                PlanRow(node.op, tensor.name, shape, tensor.dtype.value, *shown, buffer.offset, buffer.num_bytes)
            )
    return tuple(rows)
