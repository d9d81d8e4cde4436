"""The fusion pass: several small rewrites, each a plain function ``Graph -> Graph``.

None of them removes a tensor whose name is in ``keep`` or that is an output of the graph, and none renames one: a
fused node makes its tensors under the names they had, and is itself called as the node whose place it takes. Only
``fuse_quantize`` drops the f32 tensor it quantises (the quantised tensor takes its place), so it leaves kept
tensors alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

from lepton_ai.graph.attrs import (
    ActivatedLinearAttrs,
    ActivationAttrs,
    AttentionAttrs,
    Attrs,
    LinearAttrs,
    NormAttrs,
    RopeAttrs,
)
from lepton_ai.graph.graph import Graph, check
from lepton_ai.graph.node import Node
from lepton_ai.graph.tensor import Q8_GROUP, DType, Tensor

Rewrite = Callable[[Graph, Collection[str]], Graph]


def fuse(graph: Graph, keep: Collection[str] = ()) -> Graph:
    """Apply every rewrite, in the order in which they build on each other."""
    for rewrite in REWRITES:
        graph = rewrite(graph, keep)
        check(graph)
    return graph


def fuse_gated_linear(graph: Graph, keep: Collection[str] = ()) -> Graph:
    """``gated(linear(x), linear(x))`` -> ``gated_linear(x)``, unless gate or up is read elsewhere or kept."""
    producers, private = graph.producers(), _private_tensors(graph, keep)
    gone: set[str] = set()
    fused: dict[str, Node] = {}
    for node in graph.nodes:
        parts = [producers.get(t.id) for t in node.inputs] if node.op == "gated" else []
        if not parts or not all(t.id in private for t in node.inputs):
            continue
        gate, up = parts
        if gate is None or up is None or gate.op != "linear" or up.op != "linear" or gate.inputs != up.inputs:
            continue
        assert isinstance(gate.attrs, LinearAttrs) and isinstance(up.attrs, LinearAttrs)
        assert isinstance(node.attrs, ActivationAttrs)
        if len(gate.outputs) > 1 or len(up.outputs) > 1:
            continue
        attrs = ActivatedLinearAttrs(
            (gate.attrs.segments[0], up.attrs.segments[0]),
            node.attrs.kind,
            quantize_weights=gate.attrs.quantize_weights or up.attrs.quantize_weights,
        )
        gone |= {gate.name, up.name}
        fused[node.name] = Node("gated_linear", node.name, gate.inputs, gate.weights + up.weights, attrs, node.outputs)
    return _replace_nodes(graph, fused, gone)


def fuse_activated_linear(graph: Graph, keep: Collection[str] = ()) -> Graph:
    """``activate(linear(x))`` -> ``activated_linear(x)``, unless the product is read elsewhere or kept."""
    producers, private = graph.producers(), _private_tensors(graph, keep)
    gone: set[str] = set()
    fused: dict[str, Node] = {}
    for node in graph.nodes:
        if node.op != "activate" or node.inputs[0].id not in private:
            continue
        linear = producers.get(node.inputs[0].id)
        if linear is None or linear.op != "linear" or len(linear.outputs) > 1:
            continue
        assert isinstance(linear.attrs, LinearAttrs) and isinstance(node.attrs, ActivationAttrs)
        attrs = ActivatedLinearAttrs(
            linear.attrs.segments, node.attrs.kind, quantize_weights=linear.attrs.quantize_weights
        )
        gone.add(linear.name)
        fused[node.name] = Node("activated_linear", node.name, linear.inputs, linear.weights, attrs, node.outputs)
    return _replace_nodes(graph, fused, gone)


def fuse_linears(graph: Graph, keep: Collection[str] = ()) -> Graph:
    """Linears that read the same tensor -> one linear, at the place of the first, with the segments of all.

    Every output keeps its name, so nothing in ``keep`` is lost. ``quantize_weights`` of the fused node is set if any
    part had it: it only concerns wide matrices.
    """
    groups: dict[int, list[Node]] = {}
    for node in graph.nodes:
        if node.op == "linear":
            groups.setdefault(node.inputs[0].id, []).append(node)
    gone: set[str] = set()
    fused: dict[str, Node] = {}
    for first, *others in groups.values():
        if others:
            fused[first.name] = _merge_linears([first, *others])
            gone |= {n.name for n in others}
    return _replace_nodes(graph, fused, gone)


def _merge_linears(parts: list[Node]) -> Node:
    attrs = [part.attrs for part in parts if isinstance(part.attrs, LinearAttrs)]
    merged = LinearAttrs(
        tuple(segment for a in attrs for segment in a.segments),
        quantize_weights=any(a.quantize_weights for a in attrs),
    )
    weights = tuple(w for part in parts for w in part.weights)
    outputs = tuple(t for part in parts for t in part.outputs)
    return replace(parts[0], weights=weights, attrs=merged, outputs=outputs)


def fuse_add_norm(graph: Graph, keep: Collection[str] = ()) -> Graph:
    """``s = add(a, b)`` and the first norm ``y`` of ``s`` -> ``s, y = add_norm(a, b)`` at the place of the add.

    The norm is an ``rms_norm`` or a ``layer_norm``, as the attributes say. Both tensors stay, under their names; the
    sum may have any number of other readers.
    """
    producers = graph.producers()
    gone: set[str] = set()
    fused: dict[str, Node] = {}
    for node in graph.nodes:
        if node.op not in ("rms_norm", "layer_norm"):
            continue
        add = producers.get(node.inputs[0].id)
        if add is None or add.op != "add" or add.name in fused:
            continue
        outputs = (*add.outputs, *node.outputs)
        fused[add.name] = Node("add_norm", add.name, add.inputs, node.weights, node.attrs, outputs)
        gone.add(node.name)
    return _replace_nodes(graph, fused, gone)


def fuse_rope(graph: Graph, keep: Collection[str] = ()) -> Graph:
    """Rotations of queries and keys that only one attention reads -> ``attention(q, k, v, table)``, ``attrs.rope`` set.

    Both must use the same table and pairing.
    """
    producers, private = graph.producers(), _private_tensors(graph, keep)
    gone: set[str] = set()
    fused: dict[str, Node] = {}
    for node in graph.nodes:
        if node.op != "attention" or len(node.inputs) != 3:
            continue
        q, k, v = node.inputs
        rope_q, rope_k = producers.get(q.id), producers.get(k.id)
        if rope_q is None or rope_k is None or rope_q.op != "rope" or rope_k.op != "rope":
            continue
        same = rope_q.attrs == rope_k.attrs and rope_q.inputs[1] == rope_k.inputs[1]
        if not same or q.id not in private or k.id not in private:
            continue
        assert isinstance(node.attrs, AttentionAttrs) and isinstance(rope_q.attrs, RopeAttrs)
        inputs = (rope_q.inputs[0], rope_k.inputs[0], v, rope_q.inputs[1])
        gone |= {rope_q.name, rope_k.name}
        fused[node.name] = replace(node, inputs=inputs, attrs=replace(node.attrs, rope=rope_q.attrs))
    return _replace_nodes(graph, fused, gone)


def fuse_quantize(graph: Graph, keep: Collection[str] = ()) -> Graph:
    """A ``quantize`` that alone reads a norm, an activation, an activated or gated linear or an attention -> that
    node makes it.

    The quantised tensor takes over the output's place and keeps its own name (``precision.SUFFIXES``). An attention is
    only fused if groups of 32 do not cross its heads.
    """
    producers, private = graph.producers(), _private_tensors(graph, keep)
    gone: set[str] = set()
    fused: dict[str, Node] = {}
    for node in graph.nodes:
        if node.op != "quantize" or node.inputs[0].id not in private:
            continue
        producer = producers.get(node.inputs[0].id)
        attrs = None if producer is None else _quantising_attrs(producer, node.inputs[0], node.outputs[0])
        if producer is None or attrs is None:
            continue
        outputs = tuple(node.outputs[0] if t == node.inputs[0] else t for t in producer.outputs)
        gone.add(node.name)
        fused[producer.name] = replace(producer, attrs=attrs, outputs=outputs)
    return _replace_nodes(graph, fused, gone)


def _quantising_attrs(producer: Node, output: Tensor, quantised: Tensor) -> Attrs | None:
    """The attributes of ``producer`` making ``quantised`` in place of ``output``, or None if it cannot."""
    attrs = producer.attrs
    if isinstance(attrs, NormAttrs) and output == producer.outputs[-1]:
        return replace(attrs, quantize=True)
    if isinstance(attrs, ActivationAttrs):
        return replace(attrs, quantize=True)
    if isinstance(attrs, ActivatedLinearAttrs) and quantised.dtype in (DType.Q8, DType.R8):
        return replace(attrs, quantize=True)
    if isinstance(attrs, AttentionAttrs) and quantised.dtype is DType.Q8 and attrs.kv.head_dim % Q8_GROUP == 0:
        return replace(attrs, quantize=True)
    return None


REWRITES: tuple[Rewrite, ...] = (
    fuse_gated_linear,
    fuse_activated_linear,
    fuse_linears,
    fuse_add_norm,
    fuse_rope,
    fuse_quantize,
)
"""In the order of ``fuse``: products must still be linears of their own when an activation takes them, and
``quantize`` comes last, when the nodes that can absorb it exist."""


def _private_tensors(graph: Graph, keep: Collection[str]) -> set[int]:
    """Ids of the tensors that exactly one node reads, once, and nobody outside asks for."""
    held = {t.id for t in graph.outputs}
    counts: dict[int, int] = {}
    for node in graph.nodes:
        for tensor in node.inputs:
            counts[tensor.id] = counts.get(tensor.id, 0) + 1
            if tensor.name in keep:
                held.add(tensor.id)
    return {tensor_id for tensor_id, count in counts.items() if count == 1 and tensor_id not in held}


def _replace_nodes(graph: Graph, fused: dict[str, Node], gone: set[str]) -> Graph:
    """``graph`` with nodes replaced or dropped, by name (unique, since a node is named after an output)."""
    nodes = tuple(fused.get(n.name, n) for n in graph.nodes if n.name not in gone)
    return Graph(graph.inputs, nodes, graph.outputs)
