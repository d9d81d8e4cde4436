"""An OLMo 2 forward in NumPy f64, straight from the paper: no graph, no cache, no code of the product."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def olmo2_f64(
    weights: Mapping[str, Array],
    token_ids: Sequence[int],
    *,
    num_layers: int,
    head_dim: int,
    eps: float,
    theta: float,
) -> dict[str, Array]:
    """Intermediates by name; ``logits`` ``[T, V]`` of the whole sequence at once, with a causal mask."""
    taps: dict[str, Array] = {}
    x = weights["token_embd.weight"][list(token_ids)]
    for n in range(num_layers):
        w = {key.removeprefix(f"blk.{n}."): value for key, value in weights.items() if key.startswith(f"blk.{n}.")}
        q = _norm(x @ w["attn_q.weight"].T, w["attn_q_norm.weight"], eps)
        k = _norm(x @ w["attn_k.weight"].T, w["attn_k_norm.weight"], eps)
        taps[f"blk.{n}.attn_q_norm"], taps[f"blk.{n}.attn_k_norm"] = q, k
        q, k = _turn(q, head_dim, theta), _turn(k, head_dim, theta)
        taps[f"blk.{n}.attn_q_rope"] = q
        taps[f"blk.{n}.attn"] = _attend(q, k, x @ w["attn_v.weight"].T, head_dim)
        x = x + _norm(taps[f"blk.{n}.attn"] @ w["attn_output.weight"].T, w["post_attention_norm.weight"], eps)
        taps[f"blk.{n}.attn_residual"] = x
        gate, up = x @ w["ffn_gate.weight"].T, x @ w["ffn_up.weight"].T
        x = x + _norm(gate / (1 + np.exp(-gate)) * up @ w["ffn_down.weight"].T, w["post_ffw_norm.weight"], eps)
        taps[f"blk.{n}.ffn_residual"] = x
    taps["logits"] = _norm(x, weights["output_norm.weight"], eps) @ weights["output.weight"].T
    return taps


def _norm(x: Array, weight: Array, eps: float) -> Array:
    mean_square: Array = np.square(x).mean(-1, keepdims=True)
    return x / np.sqrt(mean_square + eps) * weight


def _turn(x: Array, head_dim: int, theta: float) -> Array:
    """Pairs half a head apart, each a complex number turned by position times frequency."""
    pairs = x.reshape(len(x), -1, 2, head_dim // 2)
    frequencies = theta ** (-np.arange(0, head_dim, 2) / head_dim)
    turns = np.exp(1j * np.arange(len(x))[:, None, None] * frequencies)
    turned = (pairs[:, :, 0] + 1j * pairs[:, :, 1]) * turns
    return np.stack([turned.real, turned.imag], axis=2).reshape(x.shape)


def _attend(q: Array, k: Array, v: Array, head_dim: int) -> Array:
    queries, keys, values = (x.reshape(len(x), -1, head_dim) for x in (q, k, v))
    share = queries.shape[1] // keys.shape[1]
    scores = np.einsum("thd,shd->hts", queries, keys.repeat(share, axis=1)) / np.sqrt(head_dim)
    scores = np.where(np.tri(len(q), dtype=bool), scores, -np.inf)
    p = np.exp(scores - scores.max(-1, keepdims=True))
    out: Array = np.einsum("hts,shd->thd", p / p.sum(-1, keepdims=True), values.repeat(share, axis=1))
    return out.reshape(len(q), -1)
