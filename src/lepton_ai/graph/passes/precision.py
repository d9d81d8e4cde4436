"""The precision pass: which activations are quantised, which weights are narrowed, what the KV cache holds.

It inserts ``quantize`` nodes (``Q8`` tensors, named after their input with the suffix ``.q8``; ``Q16``: ``.q16``):

    per row and group of 32 along the last axis, all in f32:  m = max|x|
    scale = m / 127,  q = round_half_even(x * (127 / m))          if 2^-100 <= m and m is finite
    scale = 0,        q = 0                                       if m < 2^-100 (its inverse could overflow)
    scale = NaN,      q = 0                                       if m is infinite or NaN, so that outputs say so

The last group of a row whose length 32 does not divide is padded with zeros.

Where a matrix is narrowed anyway, its input may be rotated first (``R8``, suffix ``.r8``), and so are the matrix's rows
when they are packed: each block of 128 by the Walsh-Hadamard transform (sums and differences at distances 64, 32, ... 1
in f32), which spreads a channel that stands out over its block (QuaRot, Ashkboos et al. 2024). A block shares a scale:
the rule above, times ``1 / sqrt(128)``. Products stay what they were, cost less, and are about as close as with groups
of 32, closer where channels stand out, as those of layer norms do; so one term is enough for values of attention then.
Rows must be whole blocks. The head is left out, and a matrix that an embedding reads too, and rows that an attention
makes: it quantises heads one by one.

An encoder's rows have one scale each, and so have those of its matrices (``R8_ROW``, suffix ``.r8row``), those that an
attention makes too: an output is one sum of integers then, half the work on processors that multiply tiles. They are
rotated as a whole: parts of the largest power of two, ``p``, that divides the row by the transform, then all ``m``
parts by the reflection ``x - 2/m * sum`` (Householder 1958), so that no part stands out; the scale is ``1 / sqrt(p)``
times that of the rule. What models predict from tokens suffers more from it, and the rows of an activation are made
block by block: they keep ``R8``.

Two kinds of matrix read ``Q16``, where one 8-bit row costs the most and a second costs the least: the head (of wanted
rows, or of whole sequences), whose error stands in the logits undiminished (its cost is reading its weights, once for
both rows), and values of attention, a few per cent of a layer's work. ``Q16`` is ``x`` quantised as above, then what is
left, in 256ths:
``rest = min(127, round_half_even((x * (127 / m) - q) * 256))``; the integer ``256 * q + rest`` has the scale
``scale / 256``. Other readers of the same tensor multiply its first row alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Protocol

from lepton_ai.config import Policy
from lepton_ai.graph.attrs import ActivatedLinearAttrs, AttentionAttrs, Attrs, KVSpec, LinearAttrs
from lepton_ai.graph.graph import Graph, check
from lepton_ai.graph.node import Node, segment_weights
from lepton_ai.graph.tensor import MAX_ROTATED_ROW, ROTATION, DType, Tensor, symbol

SUFFIXES: Mapping[DType, str] = {
    DType.Q8: ".q8",
    DType.Q16: ".q16",
    DType.R8: ".r8",
    DType.R8_ROW: ".r8row",
}
"""What the name of a quantised tensor adds to the name of its source."""

_MATMULS = frozenset({"linear", "token_logprob"})


class StorageType(Protocol):
    """What this pass asks of a weight's storage type (``weights.formats.WeightType``)."""

    @property
    def value(self) -> str:
        """Name of the type, as GGUF tools print it."""
        ...

    @property
    def bits(self) -> int:
        """Width of one element's code, without its group's scales."""
        ...


def kv_dtype(policy: Policy, wanted: DType | None = None) -> DType:
    """Element type of the KV cache: ``wanted``, or that of ``policy``."""
    return wanted or (DType.F32 if policy is Policy.EXACT else DType.F16)


def kv_specs(graph: Graph) -> tuple[KVSpec, ...]:
    """The cache specs of layers 0, 1, ... of ``graph``, as its attention nodes state them."""
    specs = {node.attrs.layer: node.attrs.kv for node in graph.nodes if isinstance(node.attrs, AttentionAttrs)}
    return tuple(specs[layer] for layer in sorted(specs))


def narrowed_matrices(graph: Graph) -> dict[str, DType]:
    """The matrices that are to be held in 8 bits if they are wider -> how: ``Q8``, or ``R8`` or ``R8_ROW``."""
    return {
        matrix.name: node.inputs[0].dtype if node.inputs[0].dtype.is_rotated else DType.Q8
        for node in graph.nodes
        if isinstance(node.attrs, LinearAttrs | ActivatedLinearAttrs) and node.attrs.quantize_weights
        for _, matrix, _ in segment_weights(node)
    }


def apply_precision(
    graph: Graph, weight_types: Mapping[str, StorageType], policy: Policy, *, cache_dtype: DType | None = None
) -> Graph:
    """Fix the dtype of activations, weights and cache under ``policy``; ``cache_dtype`` replaces that of the cache.

    ``exact`` quantises nothing. ``auto`` quantises the input of each matrix product whose matrix is stored in at most
    8 bits. ``fast`` quantises the input of every matrix product and sets ``quantize_weights`` where the matrix is
    wider. Readers of one tensor share one ``quantize`` node, which stands before the first of them and makes ``Q16`` if
    one of them reads two terms; those that read it rotated share another.
    """
    rotated = _rotated_products(graph, weight_types) if policy is Policy.FAST else {}
    terms = _num_terms(graph, weight_types, policy, rotated)
    targets = _quantised_tensors(graph, terms, rotated)
    nodes: list[Node] = []
    made: set[int] = set()
    for node in graph.nodes:
        if isinstance(node.attrs, AttentionAttrs):
            spec = replace(node.attrs.kv, dtype=kv_dtype(policy, cache_dtype))
            nodes.append(replace(node, attrs=replace(node.attrs, kv=spec)))
            continue
        if node.name not in terms:
            nodes.append(node)
            continue
        source, target = node.inputs[0], targets[node.inputs[0].id, rotated.get(node.name)]
        if target.id not in made:
            nodes.append(Node("quantize", target.name, (source,), (), Attrs(), (target,)))
            made.add(target.id)
        nodes.append(_quantised_matmul(node, target, terms[node.name], weight_types))
    lowered = Graph(graph.inputs, tuple(nodes), graph.outputs)
    check(lowered)
    return lowered


def _num_terms(
    graph: Graph, weight_types: Mapping[str, StorageType], policy: Policy, rotated: Collection[str]
) -> dict[str, int]:
    """Name of each matrix product with a quantised input -> how many 8-bit rows of it are read."""
    if policy is Policy.EXACT:
        return {}
    values = {node.inputs[2].id for node in graph.nodes if node.op == "attention"}
    return {
        node.name: 2 if _is_head(node) or (node.outputs[0].id in values and node.name not in rotated) else 1
        for node in graph.nodes
        if node.op in _MATMULS and (policy is Policy.FAST or not _reads_wide_matrix(node, weight_types))
    }


def _rotated_products(graph: Graph, weight_types: Mapping[str, StorageType]) -> dict[str, DType]:
    """Names of the products that read rotated rows where matrices are narrowed -> ``R8`` or ``R8_ROW``."""
    producers, is_encoder = graph.producers(), _is_encoder(graph)

    def wanted(node: Node) -> DType | None:
        producer = producers.get(node.inputs[0].id)
        made_by = None if producer is None else producer.op
        if is_encoder and made_by not in ("activate", "gated") and node.weights[0].shape[1] <= MAX_ROTATED_ROW:
            return DType.R8_ROW
        return None if made_by == "attention" else DType.R8

    chosen = {
        node.name: dtype
        for node in graph.nodes
        if node.op == "linear"
        and not _is_head(node)
        and all(weight_types[matrix.name].bits > 8 for _, matrix, _ in segment_weights(node))
        and all(matrix.shape[1] % ROTATION == 0 for _, matrix, _ in segment_weights(node))
        and (dtype := wanted(node))
    }
    read_as_they_are = {w.name for node in graph.nodes if node.name not in chosen for w in node.weights}
    return {
        node.name: chosen[node.name]
        for node in graph.nodes
        if node.name in chosen and read_as_they_are.isdisjoint(w.name for _, w, _ in segment_weights(node))
    }


def _is_encoder(graph: Graph) -> bool:
    attentions = [node.attrs for node in graph.nodes if isinstance(node.attrs, AttentionAttrs)]
    return bool(attentions) and not any(attrs.is_causal for attrs in attentions)


def _quantised_tensors(
    graph: Graph, terms: Mapping[str, int], rotated: Mapping[str, DType]
) -> dict[tuple[int, DType | None], Tensor]:
    """Id of each tensor that a product reads quantised, and how it reads it rotated, if so -> that quantised tensor.

    It has the most terms that are read.
    """
    most: dict[tuple[Tensor, DType | None], int] = {}
    for node in graph.nodes:
        if node.name in terms:
            key = node.inputs[0], rotated.get(node.name)
            most[key] = max(most.get(key, 0), terms[node.name])
    next_id = 1 + max((t.id for t in (*graph.inputs, *(t for n in graph.nodes for t in n.outputs))), default=0)
    targets: dict[tuple[int, DType | None], Tensor] = {}
    for index, ((source, rotation), num_terms) in enumerate(most.items()):
        dtype = rotation or (DType.Q16 if num_terms == 2 else DType.Q8)
        targets[source.id, rotation] = Tensor(next_id + index, source.shape, dtype, source.name + SUFFIXES[dtype])
    return targets


def _quantised_matmul(node: Node, source: Tensor, num_terms: int, weight_types: Mapping[str, StorageType]) -> Node:
    assert isinstance(node.attrs, LinearAttrs)
    segments = tuple(replace(segment, num_terms=num_terms) for segment in node.attrs.segments)
    attrs = replace(node.attrs, segments=segments, quantize_weights=_reads_wide_matrix(node, weight_types))
    return replace(node, inputs=(source, *node.inputs[1:]), attrs=attrs)


def _is_head(node: Node) -> bool:
    """Whether the node multiplies the rows whose logits are wanted, or those of whole sequences."""
    return node.inputs[0].shape[0] in (symbol("R"), symbol("S"))


def _reads_wide_matrix(node: Node, weight_types: Mapping[str, StorageType]) -> bool:
    return any(weight_types[matrix.name].bits > 8 for _, matrix, _ in segment_weights(node))
