"""A Llama forward in NumPy f64, straight from the papers: no graph, no cache, no code of the product."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def llama_f64(
    weights: Mapping[str, Array],
    token_ids: Sequence[int],
    *,
    num_layers: int,
    num_heads: int,
    num_kv_heads: int,
    eps: float,
    theta: float,
    interleaved: bool,
    tied: bool = False,
) -> dict[str, Array]:
    """Intermediates by name; ``logits`` ``[T, V]`` of the whole sequence at once, with a causal mask."""
    taps: dict[str, Array] = {}
    x = weights["token_embd.weight"][list(token_ids)]
    taps["token_embd"] = x
    head_dim = len(weights["blk.0.attn_q.weight"]) // num_heads
    for n in range(num_layers):
        w = {key.removeprefix(f"blk.{n}."): value for key, value in weights.items() if key.startswith(f"blk.{n}.")}
        h = _norm(x, w["attn_norm.weight"], eps)
        taps[f"blk.{n}.attn_norm"] = h
        q, k, v = (_heads(h @ w[f"attn_{s}.weight"].T + w.get(f"attn_{s}.bias", 0.0), head_dim) for s in "qkv")
        q, k = _rotate(q, theta, interleaved=interleaved), _rotate(k, theta, interleaved=interleaved)
        taps[f"blk.{n}.attn_q_rope"] = q.reshape(len(x), -1)
        taps[f"blk.{n}.attn"] = _attend(q, k, v, num_heads // num_kv_heads)
        x = x + taps[f"blk.{n}.attn"] @ w["attn_output.weight"].T
        taps[f"blk.{n}.attn_residual"] = x
        h = _norm(x, w["ffn_norm.weight"], eps)
        gate, up = h @ w["ffn_gate.weight"].T, h @ w["ffn_up.weight"].T
        taps[f"blk.{n}.ffn_act"] = gate / (1 + np.exp(-gate)) * up
        x = x + taps[f"blk.{n}.ffn_act"] @ w["ffn_down.weight"].T
        taps[f"blk.{n}.ffn_residual"] = x
    x = _norm(x, weights["output_norm.weight"], eps)
    taps["logits"] = x @ weights["token_embd.weight" if tied else "output.weight"].T
    return taps


def _norm(x: Array, weight: Array, eps: float) -> Array:
    mean_square: Array = np.square(x).mean(-1, keepdims=True)
    return x / np.sqrt(mean_square + eps) * weight


def _heads(x: Array, head_dim: int) -> Array:
    return x.reshape(len(x), -1, head_dim)


def _rotate(x: Array, theta: float, *, interleaved: bool) -> Array:
    """Each pair is a complex number, turned by position times frequency."""
    num_tokens, num_heads, head_dim = x.shape
    angles = np.arange(num_tokens)[:, None] * theta ** (-np.arange(0, head_dim, 2) / head_dim)
    order = (num_tokens, num_heads, head_dim // 2, 2) if interleaved else (num_tokens, num_heads, 2, head_dim // 2)
    axis = 3 if interleaved else 2
    real, imaginary = np.moveaxis(x.reshape(order), axis, 0)
    turned = (real + 1j * imaginary) * np.exp(1j * angles)[:, None, :]
    return np.stack([turned.real, turned.imag], axis=axis).reshape(x.shape)


def _attend(q: Array, k: Array, v: Array, share: int) -> Array:
    num_tokens, num_heads, head_dim = q.shape
    out = np.zeros_like(q)
    for h in range(num_heads):
        for t in range(num_tokens):
            scores = k[: t + 1, h // share] @ q[t, h] / np.sqrt(head_dim)
            p = np.exp(scores - scores.max())
            out[t, h] = p / p.sum() @ v[: t + 1, h // share]
    return out.reshape(num_tokens, -1)
