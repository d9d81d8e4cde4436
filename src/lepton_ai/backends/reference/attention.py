"""Attention over each sequence's own cache."""

from __future__ import annotations

import numpy as np

from lepton_ai.backends.base import Float32Array, StepInputs
from lepton_ai.backends.reference.kv import Float64Array, ReferenceKVCache, slots_of
from lepton_ai.backends.reference.weights import rotate
from lepton_ai.graph.attrs import AttentionAttrs, RopeAttrs


def rope(x: Float32Array, table: Float32Array, attrs: RopeAttrs) -> Float32Array:
    """Rotated heads: x ``[T, H*D]``, table ``[T, D]`` of cosines, then sines. Computed in f64, rounded once."""
    half = attrs.head_dim // 2
    cos, sin = (part[:, None, :].astype(np.float64) for part in (table[:, :half], table[:, half:]))
    heads = x.reshape(len(x), -1, attrs.head_dim)
    first, second = (slice(0, None, 2), slice(1, None, 2)) if attrs.interleaved else (slice(half), slice(half, None))
    rotated = np.empty_like(heads)
    rotated[..., first] = heads[..., first] * cos - heads[..., second] * sin
    rotated[..., second] = heads[..., second] * cos + heads[..., first] * sin
    return rotated.reshape(x.shape)


def attention(
    q: Float32Array,
    k: Float32Array,
    v: Float32Array,
    *,
    attrs: AttentionAttrs,
    step: StepInputs,
    cache: ReferenceKVCache,
    bias: Float32Array | None = None,
) -> Float32Array:
    """Append k and v to the cache, then attend. q ``[T, H*D]``, k and v ``[T, K*D]`` -> ``[T, H*D]``.

    A sequence's tokens take the last places of its ``kv_lengths``. ``bias`` is ``[buckets, H]``.
    """
    head_dim, layer = attrs.kv.head_dim, attrs.layer
    queries, keys, values = (a.reshape(len(a), -1, head_dim) for a in (q, k, v))
    tables = step.kv_groups[cache.group_of_layer[layer]].block_tables
    out = np.empty_like(queries)
    for index, length in enumerate(step.kv_lengths):
        rows = slice(step.query_offsets[index], step.query_offsets[index + 1])
        slots = slots_of(tables[index], np.arange(length, dtype=np.int32))
        places = np.arange(length - (rows.stop - rows.start), length)
        cache.write(layer, slots[places], keys[rows], values[rows])
        rotated = rotate(queries[rows], attrs.kv.rotation)
        attended = _attend(rotated, *cache.read(layer, slots), places, attrs, bias)
        out[rows] = rotate(attended, attrs.kv.rotation) / np.float32(attrs.kv.rotation)
    return out.reshape(q.shape)


def _attend(
    queries: Float32Array,
    keys: Float64Array,
    values: Float64Array,
    places: np.ndarray[tuple[int], np.dtype[np.int64]],
    attrs: AttentionAttrs,
    bias: Float32Array | None,
) -> Float32Array:
    """One sequence: queries ``[n, H, D]`` at ``places`` over ``[L, K, D]``, all rotated or none. Sums in f64."""
    share = attrs.num_heads // attrs.kv.num_heads
    all_keys, all_values = np.repeat(keys, share, axis=1), np.repeat(values, share, axis=1)
    distance = places[:, None] - np.arange(len(keys))
    is_seen = np.ones_like(distance, bool)
    if attrs.is_causal:
        is_seen = (distance >= 0) & (distance < (attrs.kv.window or len(keys)))
    # Blocks that have left every query's window may hold anything, and 0 times NaN is not 0.
    is_hidden = ~is_seen.any(axis=0)
    all_keys[is_hidden] = all_values[is_hidden] = 0.0
    scores = np.einsum("nhd,lhd->hnl", queries.astype(np.float64), all_keys) * (attrs.scale / attrs.kv.rotation)
    if bias is not None and attrs.buckets is not None:
        buckets = [[attrs.buckets.bucket(-d) for d in row] for row in distance.tolist()]
        scores += bias.astype(np.float64)[np.array(buckets)].transpose(2, 0, 1)
    scores = np.where(is_seen, scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    attended: Float32Array = np.einsum("hnl,lhd->nhd", weights, all_values).astype(np.float32)
    return attended
