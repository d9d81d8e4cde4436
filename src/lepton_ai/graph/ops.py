"""The op contracts: for each op its signature, shape rule, dtype semantics and formula.

A function here adds a node to the trace of its inputs. Shapes: ``T`` tokens, ``R`` rows, ``H`` heads, ``K`` KV heads,
``D`` head dim, ``C`` hidden size, ``F`` feed-forward size, ``V`` vocabulary. All arithmetic is f32 unless said.

Ops that models call: embedding, rope_table, rms_norm, layer_norm, linear, rope, attention, add, activate,
gated, gather_rows, pool, l2_normalize, token_logprob. Ops that only passes make: quantize, add_norm, activated_linear,
gated_linear (they stand in ``passes/fuse.py`` and ``passes/precision.py``; their formulas are here, beside the others).
"""

from __future__ import annotations

from collections.abc import Sequence

from lepton_ai.graph.attrs import (
    Activation,
    ActivationAttrs,
    AttentionAttrs,
    DistanceBuckets,
    EmbeddingAttrs,
    KVSpec,
    LinearAttrs,
    NormAttrs,
    NormKind,
    PoolAttrs,
    PoolMode,
    RopeAttrs,
    RopeTableAttrs,
    Segment,
)
from lepton_ai.graph.tensor import DType, Weight, symbol
from lepton_ai.graph.trace import Value

OPS: dict[str, str] = {
    "embedding": "y[t] = scale * table[first_row + ids[t]]; ids [T] i32, table (V, C) -> y [T, C] f32",
    "rope_table": "y[t, i] = cos(p[t] * f[i]), y[t, D/2 + i] = sin(...); positions [T] i32 -> [T, D] f32",
    "rms_norm": "y = x / sqrt(mean(x^2) + eps) * (offset + w) in each group of a row; [T, C] -> [T, C] f32 or 8-bit",
    "layer_norm": "y = (x - mean(x)) / sqrt(mean((x - mean(x))^2) + eps) * w + b; [T, C] -> [T, C] f32 or 8-bit",
    "linear": "y_s = x @ w_s^T + b_s for each segment s; x [T, C] f32 or 8-bit -> y_s [T, N_s] f32",
    "rope": "rotate pairs of each head by the table's angle; x [T, H*D] -> [T, H*D]",
    "attention": "append k, v to the cache, then softmax(scale * q k^T + bias) v over each request's own cache",
    "add": "y = a + b; same shapes",
    "activate": "y = kind(x) for each value; [T, F] -> [T, F] f32 or 8-bit",
    "gated": "y = kind(gate) * up; [T, F] each -> [T, F] f32 or 8-bit",
    "gather_rows": "y[r] = x[rows[r]]; x [T, C], rows [R] i32 -> [R, C]",
    "pool": "y[s] = first, last, mean, largest or sum / sqrt(n) of a sequence's rows; [T, C] -> [S, C]",
    "l2_normalize": "y = x / max(sqrt(sum(x^2)), 1e-12) over the last axis; [T, C] -> [T, C]",
    "token_logprob": "y[r] = log_softmax(x[r] @ w^T)[target[r]] without holding [R, V]; -> [R] f32",
    "quantize": "per row and group: scale = max|x| / 127, q = round_half_even(x * (127 / max|x|)); -> 8-bit rows",
    "add_norm": "s = a + b; y = rms_norm(s) or layer_norm(s); outputs (s f32, y f32 or 8-bit)",
    "activated_linear": "y = kind(x @ w^T + b); x [T, C] f32 or 8-bit -> [T, F] f32, q8 or r8",
    "gated_linear": "y = kind(x @ gate^T + b) * (x @ up^T + b); x [T, C] f32 or 8-bit -> [T, F] f32, q8 or r8",
}
"""Every op of the vocabulary with its formula, for people and for the exhaustiveness tests of backends.

8-bit rows are q8, q16, r8 or r8row: see ``DType``."""


def _last(value: Value) -> int:
    size = value.shape[-1]
    assert isinstance(size, int), f"{value.tensor.name}: the last axis must have a fixed size"
    return size


def embedding(ids: Value, table: Weight, *, name: str, scale: float = 1.0, first_row: int = 0) -> Value:
    """Rows of ``table`` (V, C) by id: ``y[t] = f32(scale) * table[first_row + ids[t]]``. ids [T] i32 -> [T, C] f32.

    ``ids`` is an input of the graph: ``token_ids``, ``positions`` or ``token_type_ids``. Rows are dequantised to f32,
    and the product is rounded to f32 again.
    """
    outputs = [(name, (*ids.shape, table.shape[1]), DType.F32)]
    (y,) = ids.trace.add("embedding", [ids], outputs, attrs=EmbeddingAttrs(scale, first_row), weights=[table])
    return y


def rope_table(positions: Value, inverse_frequencies: Sequence[float], *, name: str, scale: float = 1.0) -> Value:
    """Cosines and sines of rotary embedding (Su et al. 2021): positions [T] i32 -> [T, D] f32.

    ``angle[t, i] = f32(positions[t]) * f32(inverse_frequencies[i])``, rounded to f32 as published models were trained;
    ``y[t, i] = scale * cos(angle)``, ``y[t, D/2 + i] = scale * sin(angle)``, each correctly rounded from f64.
    """
    shape = (*positions.shape, 2 * len(inverse_frequencies))
    attrs = RopeTableAttrs(tuple(float(f) for f in inverse_frequencies), scale)
    (y,) = positions.trace.add("rope_table", [positions], [(name, shape, DType.F32)], attrs=attrs)
    return y


def rms_norm(
    x: Value, weight: Weight, *, eps: float, name: str, num_groups: int = 1, weight_offset: float = 0.0
) -> Value:
    """``y = x / sqrt(mean(x^2) + eps) * (weight_offset + weight)`` (Zhang & Sennrich 2019). [T, C] -> [T, C].

    The mean is that of a group: a row is ``num_groups`` equal parts (the heads of a query, say), each normalised by
    itself with the same weight (C / num_groups,). The offset and the weight are added in f32.
    """
    group, rest = divmod(_last(x), num_groups)
    assert rest == 0 and weight.shape == (group,), (
        f"{name}: weight {weight.shape} for rows of {_last(x)} in {num_groups} groups"
    )
    attrs = NormAttrs(eps, num_groups=num_groups, weight_offset=weight_offset)
    (y,) = x.trace.add("rms_norm", [x], [(name, x.shape, DType.F32)], attrs=attrs, weights=[weight])
    return y


def layer_norm(x: Value, weight: Weight, bias: Weight, *, eps: float, name: str) -> Value:
    """``y = (x - mean(x)) / sqrt(mean((x - mean(x))^2) + eps) * weight + bias`` over the last axis. [T, C] -> [T, C].

    The source is Ba, Kiros & Hinton 2016. Differences from the mean are squared, so that a common offset of a row does
    not cancel; what rounding left of the mean in them is taken off first.
    """
    for parameter in (weight, bias):
        assert parameter.shape == (_last(x),), f"{name}: {parameter.name} {parameter.shape} for rows of {_last(x)}"
    attrs = NormAttrs(eps, NormKind.LAYER)
    (y,) = x.trace.add("layer_norm", [x], [(name, x.shape, DType.F32)], attrs=attrs, weights=[weight, bias])
    return y


def linear(x: Value, weight: Weight, *, name: str, bias: Weight | None = None) -> Value:
    """``y = x @ weight^T + bias``; weight (N, C), bias (N,). [T, C] f32 or 8-bit -> [T, N] f32.

    f32 input: weights are dequantised to f32 and multiplied in f32. q8 input: per group ``g`` of 32 inputs, in
    ascending order, ``acc = fma(f32(idot) * x_scale[g], w_scale, acc)`` with the exact integer dot product ``idot`` of
    the group (offset of the weight type included), then ``acc = fma(w_min, x_scale[g] * isum, acc)`` if it has minima;
    weight groups of 16 take the two halves of a group in turn. q16 input: the same with the integers that its two rows
    make. r8 input: the same for groups of 128 of rotated inputs and weights; r8row: for whole rows.
    """
    num_outputs, num_inputs = weight.shape
    assert num_inputs == _last(x), f"{name}: weight {weight.shape} for rows of {_last(x)}"
    attrs = LinearAttrs((Segment(name, num_outputs, bias is not None),))
    weights = [weight] if bias is None else [weight, bias]
    outputs = [(name, (*x.shape[:-1], num_outputs), DType.F32)]
    (y,) = x.trace.add("linear", [x], outputs, attrs=attrs, weights=weights)
    return y


def rope(x: Value, table: Value, *, head_dim: int, interleaved: bool, name: str) -> Value:
    """Rotate each head's pairs ``(a, b)`` to ``(a cos - b sin, b cos + a sin)``. [T, H*D] -> [T, H*D].

    ``interleaved``: pair i is (2i, 2i+1), the order of GGUF files of Llama type; else it is (i, i + D/2).
    """
    attrs = RopeAttrs(head_dim, interleaved)
    (y,) = x.trace.add("rope", [x, table], [(name, x.shape, DType.F32)], attrs=attrs)
    return y


def attention(
    q: Value,
    k: Value,
    v: Value,
    *,
    num_heads: int,
    kv: KVSpec,
    layer: int,
    scale: float,
    name: str,
    is_causal: bool = True,
    bias: Weight | None = None,
    buckets: DistanceBuckets | None = None,
) -> Value:
    """Attention over each request's cache. q [T, H*D], k and v [T, K*D] -> [T, H*D].

    New keys and values are written to the cache of ``layer`` after rounding to ``kv.dtype`` (so a token sees its own
    rounded key; ``KVSpec`` has the rule of 8 bits). Query head ``h`` reads KV head ``h * K // H``. A query at position
    ``p`` sees positions ``max(0, p - window + 1) ... p`` of its own request; without ``is_causal``, all that the
    request has after this step (an encoder runs a sequence whole, in one step), and there is no window. Softmax and
    sums are f32. Keys are processed in tiles at fixed absolute positions, so that the result does not depend on how a
    prompt was cut.

    ``bias`` (buckets, heads) is added to the scaled scores, by the bucket of the distance from query to key. Layers may
    share one cache, ``layer``, where none reads it in a later step.
    """
    assert is_causal or kv.window is None, f"{name}: a window of {kv.window} without is_causal"
    assert (bias is None) == (buckets is None), f"{name}: a bias takes buckets"
    assert bias is None or (buckets and bias.shape == (buckets.count, num_heads)), f"{name}: bias {bias}"
    attrs = AttentionAttrs(num_heads, layer, kv, scale, is_causal, buckets)
    shape = (*q.shape[:-1], num_heads * kv.head_dim)
    weights = [] if bias is None else [bias]
    (y,) = q.trace.add("attention", [q, k, v], [(name, shape, DType.F32)], attrs=attrs, weights=weights)
    return y


def add(a: Value, b: Value, *, name: str) -> Value:
    """``y = a + b``; equal shapes."""
    assert a.shape == b.shape, f"{name}: {a.shape} + {b.shape}"
    (y,) = a.trace.add("add", [a, b], [(name, a.shape, DType.F32)])
    return y


def activate(x: Value, *, kind: Activation, name: str) -> Value:
    """``y = kind(x)`` for each value. [T, F] -> [T, F].

    ``SILU``: ``x / (1 + exp(-x))``. ``GELU``: ``x * (1 + erf(x / sqrt(2))) / 2`` (Hendrycks & Gimpel 2016).
    ``GELU_TANH``: ``x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3))) / 2``, their approximation. ``RELU``:
    ``max(x, 0)``. ``TANH``. NaN stays NaN; where the result is less than ``2^-125 |x|``, it may be another as small.
    """
    (y,) = x.trace.add("activate", [x], [(name, x.shape, DType.F32)], attrs=ActivationAttrs(kind))
    return y


def gated(gate: Value, up: Value, *, kind: Activation, name: str) -> Value:
    """A gated linear unit's product (Shazeer 2020): ``y = kind(gate) * up``, the kinds of ``activate``. [T, F] each."""
    assert gate.shape == up.shape, f"{name}: {gate.shape} and {up.shape}"
    (y,) = gate.trace.add("gated", [gate, up], [(name, gate.shape, DType.F32)], attrs=ActivationAttrs(kind))
    return y


def gather_rows(x: Value, rows: Value, *, name: str) -> Value:
    """``y[r] = x[rows[r]]``. x [T, C], rows [R] i32 -> [R, C]."""
    (y,) = x.trace.add("gather_rows", [x, rows], [(name, (*rows.shape, *x.shape[1:]), DType.F32)])
    return y


def pool(x: Value, *, mode: PoolMode, name: str) -> Value:
    """One row for each sequence of the step, out of those of its ``n`` tokens in this step. [T, C] -> [S, C].

    ``CLS``: the first. ``LAST``: the last. ``MEAN``: ``sum / n``. ``MAX``: the largest of each column; a NaN is the
    largest. ``MEAN_SQRT_LEN``: ``sum / sqrt(n)`` (Reimers & Gurevych 2019). Sums are f32, in the order of the tokens.
    """
    assert x.shape[0] == symbol("T"), f"{name}: expected a row for each token, got {x.shape}"
    shape = (symbol("S"), *x.shape[1:])
    (y,) = x.trace.add("pool", [x], [(name, shape, DType.F32)], attrs=PoolAttrs(mode))
    return y


def l2_normalize(x: Value, *, name: str) -> Value:
    """``y = x / max(sqrt(sum(x^2)), 1e-12)`` over the last axis: rows of length 1, zeros stay. [T, C] -> [T, C].

    Squares are f32: a row with values of 1e19 or more has no length.
    """
    (y,) = x.trace.add("l2_normalize", [x], [(name, x.shape, DType.F32)])
    return y


def token_logprob(x: Value, weight: Weight, targets: Value, *, name: str) -> Value:
    """``y[r] = log_softmax(x[r] @ weight^T)[targets[r]]``; x [R, C], weight (V, C), targets [R] i32 -> [R] f32.

    The head's logits are reduced as they are made; ``[R, V]`` is never held.
    """
    outputs = [(name, targets.shape, DType.F32)]
    attrs = LinearAttrs((Segment(name, weight.shape[0]),))
    (y,) = x.trace.add("token_logprob", [x, targets], outputs, attrs=attrs, weights=[weight])
    return y
