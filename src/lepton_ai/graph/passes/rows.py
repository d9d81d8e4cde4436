"""The row pass: what only feeds a ``gather_rows`` is computed for the gathered rows alone.

A model gathers the rows whose logits are wanted right before its head. Row-wise ops commute with that, so the gather
moves up through them: in a decoder everything after the last attention runs for these rows, often one of hundreds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

from lepton_ai.graph.attrs import Attrs
from lepton_ai.graph.graph import Graph, check
from lepton_ai.graph.node import Node
from lepton_ai.graph.tensor import DType, Tensor

ROWS_SUFFIX = ".rows"
"""What the name of a gathered tensor adds to the name of its source."""

_ROW_WISE = frozenset({"linear", "rms_norm", "layer_norm", "add", "activate", "gated", "l2_normalize", "quantize"})
"""Ops whose row ``i`` of every output depends on row ``i`` of every input alone."""


def narrow_rows(graph: Graph, keep: Collection[str] = ()) -> Graph:
    """Move each ``gather_rows`` up as far as it goes. Tensors named in ``keep`` and outputs keep their rows."""
    for gather in [n for n in graph.nodes if n.op == "gather_rows"]:
        if gather.outputs[0].name not in keep and gather.outputs[0] not in graph.outputs:
            graph = _move_up(graph, gather, keep)
    check(graph)
    return graph


def _move_up(graph: Graph, gather: Node, keep: Collection[str]) -> Graph:
    narrowed = _narrowed_nodes(graph, gather, keep)
    if not narrowed:
        return graph
    source, rows = gather.inputs
    new_ids = _fresh_ids(graph)
    # Tensor id -> what stands in its place: with fewer rows, or gathered where a narrowed node reads what is not.
    slim: dict[int, Tensor] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.name == gather.name:
            slim[gather.outputs[0].id] = slim[source.id]
            continue
        if node.name not in narrowed:
            inputs = tuple(slim[t.id] if t == gather.outputs[0] else t for t in node.inputs)
            nodes.append(replace(node, inputs=inputs))
            continue
        for tensor in node.inputs:
            if tensor.id not in slim:
                name = tensor.name + ROWS_SUFFIX
                slim[tensor.id] = replace(
                    tensor, id=next(new_ids), shape=gather.outputs[0].shape[:1] + tensor.shape[1:], name=name
                )
                nodes.append(Node("gather_rows", name, (tensor, rows), (), Attrs(), (slim[tensor.id],)))
        for tensor in node.outputs:
            slim[tensor.id] = replace(tensor, shape=gather.outputs[0].shape[:1] + tensor.shape[1:])
        nodes.append(
            replace(
                node, inputs=tuple(slim[t.id] for t in node.inputs), outputs=tuple(slim[t.id] for t in node.outputs)
            )
        )
    return Graph(graph.inputs, tuple(nodes), graph.outputs)


def _narrowed_nodes(graph: Graph, gather: Node, keep: Collection[str]) -> set[str]:
    """Names of the row-wise nodes that nothing but the gather needs, directly or through each other.

    A node whose input would have to be gathered but is not f32 stays as it is, and so does what it needs.
    """
    producers, consumers = graph.producers(), graph.consumers()
    held = {t.id for t in graph.outputs} | {t.id for n in graph.nodes for t in n.outputs if t.name in keep}
    blocked: set[str] = set()
    while True:
        narrowed: set[str] = set()
        for node in reversed(graph.nodes):
            if node.op not in _ROW_WISE or node.name in blocked or any(t.id in held for t in node.outputs):
                continue
            readers = [reader for t in node.outputs for reader in consumers.get(t.id, [])]
            if readers and all(r.name in narrowed or r.name == gather.name for r in readers):
                narrowed.add(node.name)
        stuck = {
            node.name
            for node in graph.nodes
            if node.name in narrowed
            for tensor in node.inputs
            if tensor.dtype is not DType.F32
            and (tensor.id not in producers or producers[tensor.id].name not in narrowed)
        }
        if not stuck:
            return narrowed
        blocked |= stuck


def _fresh_ids(graph: Graph) -> Iterator[int]:
    tensor_id = max((t.id for t in (*graph.inputs, *(t for n in graph.nodes for t in n.outputs))), default=0)
    while True:
        tensor_id += 1
        yield tensor_id
