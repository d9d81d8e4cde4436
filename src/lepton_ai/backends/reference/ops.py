"""Every op of ``graph/ops.py`` in NumPy: sums and functions in f64, each result rounded once to f32."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import numpy as np

from lepton_ai.backends.base import Float32Array, Int32Array, StepInputs
from lepton_ai.backends.reference.activations import activated
from lepton_ai.backends.reference.attention import attention, rope
from lepton_ai.backends.reference.kv import ReferenceKVCache
from lepton_ai.backends.reference.quantized import Float64Array, Q8Rows, matmul_quantized, quantize_rows
from lepton_ai.backends.reference.sampling import log_softmax
from lepton_ai.backends.reference.weights import GroupedWeight, HeldWeight
from lepton_ai.graph.attrs import (
    ActivatedLinearAttrs,
    Activation,
    ActivationAttrs,
    AttentionAttrs,
    EmbeddingAttrs,
    NormAttrs,
    NormKind,
    PoolAttrs,
    PoolMode,
    RopeAttrs,
    RopeTableAttrs,
)
from lepton_ai.graph.node import Node, segment_weights

Value = Float32Array | Int32Array | Q8Rows


@dataclass(frozen=True, slots=True)
class Context:
    """What a node may read besides its inputs."""

    step: StepInputs
    cache: ReferenceKVCache
    weights: Mapping[str, HeldWeight]


def run_node(node: Node, inputs: Sequence[Value], context: Context) -> tuple[Value, ...]:
    """The outputs of ``node``, in order."""
    return _OPS[node.op](node, inputs, context)


def _floats(value: Value) -> Float32Array:
    assert not isinstance(value, Q8Rows) and value.dtype == np.float32
    return cast(Float32Array, value)


def _ints(value: Value) -> Int32Array:
    assert not isinstance(value, Q8Rows) and value.dtype == np.int32
    return cast(Int32Array, value)


def _embedding(node: Node, inputs: Sequence[Value], context: Context) -> tuple[Value, ...]:
    assert isinstance(node.attrs, EmbeddingAttrs)
    rows = context.weights[node.weights[0].name].rows(_ints(inputs[0]) + node.attrs.first_row)
    return (rows * np.float32(node.attrs.scale),)


def _rope_table(node: Node, inputs: Sequence[Value], context: Context) -> tuple[Value, ...]:
    assert isinstance(node.attrs, RopeTableAttrs)
    positions = _ints(inputs[0]).astype(np.float32)
    angles = positions[:, None] * np.array(node.attrs.inverse_frequencies, np.float32)
    wide = angles.astype(np.float64)
    return ((node.attrs.scale * np.concatenate([np.cos(wide), np.sin(wide)], axis=1)).astype(np.float32),)


def _normalise(x: Float32Array, node: Node, context: Context) -> Value:
    assert isinstance(node.attrs, NormAttrs)
    num_groups = node.attrs.num_groups
    wide = x.reshape(len(x), num_groups, x.shape[1] // num_groups).astype(np.float64)
    weight, *bias = (context.weights[w.name].values() for w in node.weights)
    if node.attrs.kind is NormKind.LAYER:
        wide -= np.mean(wide, axis=-1, keepdims=True)
    normed = wide / np.sqrt(np.mean(wide * wide, axis=-1, keepdims=True) + node.attrs.eps)
    normed *= np.float32(node.attrs.weight_offset) + weight
    for values in bias:
        normed += values
    return _as_output(normed.reshape(x.shape).astype(np.float32), node)


def _as_output(x: Float32Array, node: Node) -> Value:
    """The last output of ``node`` in the type it has."""
    dtype = node.outputs[-1].dtype
    return quantize_rows(x, dtype) if dtype.num_terms else x


def _norm(node: Node, inputs: Sequence[Value], context: Context) -> tuple[Value, ...]:
    return (_normalise(_floats(inputs[0]), node, context),)


def _add_norm(node: Node, inputs: Sequence[Value], context: Context) -> tuple[Value, ...]:
    total = _floats(inputs[0]) + _floats(inputs[1])
    return total, _normalise(total, node, context)


def _segments(node: Node, x: Value, context: Context) -> list[Float32Array]:
    """One product for each segment."""
    products: list[Float32Array] = []
    for segment, matrix, bias in segment_weights(node):
        weight = context.weights[matrix.name]
        if isinstance(x, Q8Rows):
            assert isinstance(weight, GroupedWeight), f"{node.name}: {matrix.name} is not held in integers"
            product = matmul_quantized(x, weight, segment.num_terms)
        else:
            product = (_floats(x).astype(np.float64) @ weight.values().astype(np.float64).T).astype(np.float32)
        products.append(product if bias is None else product + context.weights[bias.name].values())
    return products


def _linear(node: Node, inputs: Sequence[Value], context: Context) -> tuple[Value, ...]:
    return tuple(_segments(node, inputs[0], context))


def _activate(node: Node, inputs: Sequence[Value], context: Context) -> tuple[Value, ...]:
    assert isinstance(node.attrs, ActivationAttrs)
    return (_as_output(activated(_floats(inputs[0]), node.attrs.kind).astype(np.float32), node),)


def _gated_product(gate: Float32Array, up: Float32Array, kind: Activation) -> Float32Array:
    product: Float32Array = (activated(gate, kind) * up).astype(np.float32)
    return product


def _gated(node: Node, inputs: Sequence[Value], context: Context) -> tuple[Value, ...]:
    assert isinstance(node.attrs, ActivationAttrs)
    return (_as_output(_gated_product(_floats(inputs[0]), _floats(inputs[1]), node.attrs.kind), node),)


def _activated_linear(node: Node, inputs: Sequence[Value], context: Context) -> tuple[Value, ...]:
    assert isinstance(node.attrs, ActivatedLinearAttrs)
    (product,) = _segments(node, inputs[0], context)
    return (_as_output(activated(product, node.attrs.kind).astype(np.float32), node),)


def _gated_linear(node: Node, inputs: Sequence[Value], context: Context) -> tuple[Value, ...]:
    assert isinstance(node.attrs, ActivatedLinearAttrs)
    gate, up = _segments(node, inputs[0], context)
    return (_as_output(_gated_product(gate, up, node.attrs.kind), node),)


def _token_logprob(node: Node, inputs: Sequence[Value], context: Context) -> tuple[Value, ...]:
    (logits,) = _segments(node, inputs[0], context)
    return (np.take_along_axis(log_softmax(logits), _ints(inputs[1])[:, None], axis=1)[:, 0],)


def _rope(node: Node, inputs: Sequence[Value], context: Context) -> tuple[Value, ...]:
    assert isinstance(node.attrs, RopeAttrs)
    return (rope(_floats(inputs[0]), _floats(inputs[1]), node.attrs),)


def _attention(node: Node, inputs: Sequence[Value], context: Context) -> tuple[Value, ...]:
    attrs = node.attrs
    assert isinstance(attrs, AttentionAttrs)
    q, k, v = (_floats(x) for x in inputs[:3])
    if attrs.rope is not None:
        table = _floats(inputs[3])
        q, k = rope(q, table, attrs.rope), rope(k, table, attrs.rope)
    bias = context.weights[node.weights[0].name].values() if node.weights else None
    out = attention(q, k, v, attrs=attrs, step=context.step, cache=context.cache, bias=bias)
    return (_as_output(out, node),)


def _add(node: Node, inputs: Sequence[Value], context: Context) -> tuple[Value, ...]:
    return (_floats(inputs[0]) + _floats(inputs[1]),)


def _gather_rows(node: Node, inputs: Sequence[Value], context: Context) -> tuple[Value, ...]:
    return (_floats(inputs[0])[_ints(inputs[1])],)


def _pool(node: Node, inputs: Sequence[Value], context: Context) -> tuple[Value, ...]:
    assert isinstance(node.attrs, PoolAttrs)
    wide, mode = _floats(inputs[0]).astype(np.float64), node.attrs.mode
    rows = [_pooled(wide[begin:end], mode) for begin, end in pairwise(context.step.query_offsets.tolist())]
    return (np.array(rows).astype(np.float32),)


def _pooled(tokens: Float64Array, mode: PoolMode) -> Float64Array:
    row: Float64Array
    match mode:
        case PoolMode.CLS:
            row = tokens[0]
        case PoolMode.LAST:
            row = tokens[-1]
        case PoolMode.MEAN:
            row = tokens.mean(axis=0)
        case PoolMode.MAX:
            row = tokens.max(axis=0)
        case PoolMode.MEAN_SQRT_LEN:
            row = tokens.sum(axis=0) / np.sqrt(len(tokens))
    return row


def _l2_normalize(node: Node, inputs: Sequence[Value], context: Context) -> tuple[Value, ...]:
    wide = _floats(inputs[0]).astype(np.float64)
    lengths = np.sqrt(np.sum(wide * wide, axis=-1, keepdims=True))
    return ((wide / np.maximum(lengths, 1e-12)).astype(np.float32),)


def _quantize(node: Node, inputs: Sequence[Value], context: Context) -> tuple[Value, ...]:
    return (_as_output(_floats(inputs[0]), node),)


Op = Callable[[Node, Sequence[Value], Context], tuple[Value, ...]]

_OPS: Mapping[str, Op] = {
    "embedding": _embedding,
    "rope_table": _rope_table,
    "rms_norm": _norm,
    "layer_norm": _norm,
    "linear": _linear,
    "rope": _rope,
    "attention": _attention,
    "add": _add,
    "activate": _activate,
    "gated": _gated,
    "gather_rows": _gather_rows,
    "pool": _pool,
    "l2_normalize": _l2_normalize,
    "token_logprob": _token_logprob,
    "quantize": _quantize,
    "add_norm": _add_norm,
    "activated_linear": _activated_linear,
    "gated_linear": _gated_linear,
}

SUPPORTED = frozenset(_OPS)
"""Ops that this backend runs: all of ``graph.ops.OPS``."""
