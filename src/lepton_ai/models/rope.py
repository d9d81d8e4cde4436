"""Inverse frequencies of rotary embeddings (Su et al. 2021), with the ways of stretching them to longer contexts.

Models were trained with each operation rounded to f32. Powers are computed in f64 and then rounded: NumPy's own f32
power is off by a bit in a fifth of the values, which turns pairs noticeably at far positions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from lepton_ai.errors import InvalidModel, UnsupportedModel
from lepton_ai.models.metadata import Hyperparameters
from lepton_ai.weights.formats import WeightType
from lepton_ai.weights.store import WeightStore

ROPE_FACTORS: Final = "rope_freqs.weight"
"""Divisors of the frequencies that a GGUF file of Llama 3.1 holds as a tensor."""

_KINDS: Final = ("none", "linear", "llama3", "yarn")
_MAX_BASE, _MAX_FACTOR, _MAX_CONTEXT = 1e12, 1e6, 1 << 24

F32Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotation of ``D/2`` pairs: radians per position, and what cosine and sine are multiplied by."""

    inverse_frequencies: tuple[float, ...]
    scale: float = 1.0


def read_rope(params: Hyperparameters, store: WeightStore, head_dim: int) -> Rope:
    """The rotation that a checkpoint asks for.

    Raises UnsupportedModel for a kind of scaling that is not known, InvalidModel for values out of bounds.
    """
    base = params.positive("rope.freq_base", _MAX_BASE, default=10000.0)
    frequencies = _plain(base, head_dim)
    kind = params.metadata.get_str(params.key("rope.scaling.type"), "none")
    if kind not in _KINDS:
        raise _unsupported(params, "rope.scaling.type", ", ".join(_KINDS), f"{kind!r:.64}")
    if kind == "none":
        factor = params.metadata.get_float(params.key("rope.scaling.factor"), 1.0)
        if factor not in (0.0, 1.0):
            raise _unsupported(params, "rope.scaling.factor", "1 without rope.scaling.type", f"{factor:g}")
        if ROPE_FACTORS in store.names():
            frequencies = frequencies / _read_factors(store, head_dim // 2)
        return _rope(frequencies)
    if ROPE_FACTORS in store.names():
        raise InvalidModel(f"{ROPE_FACTORS}: expected no such tensor beside rope.scaling.type {kind}", param="model")
    factor = params.positive("rope.scaling.factor", _MAX_FACTOR)
    if kind == "linear":
        return _rope(frequencies / np.float32(factor))
    if kind == "llama3":
        return _rope(_llama3(params, frequencies, factor))
    return _yarn(params, frequencies, base, factor)


def _unsupported(params: Hyperparameters, name: str, expected: str, got: str) -> UnsupportedModel:
    return UnsupportedModel(f"{params.key(name)}: expected {expected}, got {got}", param="model")


def plain_rope(base: float, head_dim: int) -> Rope:
    """The rotation that is not stretched."""
    return _rope(_plain(base, head_dim))


def _rope(frequencies: F32Array, scale: float = 1.0) -> Rope:
    return Rope(tuple(float(f) for f in frequencies), scale)


def _plain(base: float, head_dim: int) -> F32Array:
    """``1 / (base ** (2i / D))``."""
    exponents = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    return np.float32(1.0) / np.power(base, exponents.astype(np.float64)).astype(np.float32)


def _read_factors(store: WeightStore, num_pairs: int) -> F32Array:
    stored = store.get(ROPE_FACTORS)
    if stored.type is not WeightType.F32 or stored.shape != (num_pairs,):
        raise InvalidModel(
            f"{ROPE_FACTORS}: expected F32 ({num_pairs},), got {stored.type.value} {stored.shape}", param="model"
        )
    values = stored.data.view("<f4").astype(np.float32)
    if not (np.isfinite(values).all() and (values > 0).all()):
        raise InvalidModel(f"{ROPE_FACTORS}: expected positive finite factors", param="model")
    return values.reshape(num_pairs)


def _llama3(params: Hyperparameters, frequencies: F32Array, factor: float) -> F32Array:
    """Llama 3.1: long waves are stretched by ``factor``, short ones kept, those between are mixed.

    Source: Grattafiori et al. 2024 and the published configurations of Llama 3.1.
    """
    low = params.positive("rope.scaling.low_freq_factor", _MAX_FACTOR)
    high = params.positive("rope.scaling.high_freq_factor", _MAX_FACTOR)
    if high <= low:
        raise params.wrong("rope.scaling.high_freq_factor", f"more than the low one, {low:g}", high)
    context = params.count("rope.scaling.original_context_length", _MAX_CONTEXT)
    wavelengths = np.float32(2 * math.pi) / frequencies
    share = (np.float32(context) / wavelengths - np.float32(low)) / np.float32(high - low)
    stretched = frequencies / np.float32(factor)
    mixed = (1 - share) * stretched + share * frequencies
    is_long, is_short = wavelengths > context / low, wavelengths < context / high
    return np.where(is_long, stretched, np.where(is_short, frequencies, mixed)).astype(np.float32)


def _yarn(params: Hyperparameters, frequencies: F32Array, base: float, factor: float) -> Rope:
    """YaRN (Peng et al. 2023): pairs that turn often are kept, those that turn seldom stretched; a ramp between."""
    context = params.count("rope.scaling.original_context_length", _MAX_CONTEXT)
    fast = params.positive("rope.scaling.yarn_beta_fast", _MAX_FACTOR, default=32.0)
    slow = params.positive("rope.scaling.yarn_beta_slow", _MAX_FACTOR, default=1.0)
    default_scale = 1.0 if factor <= 1 else 0.1 * math.log(factor) + 1.0
    scale = params.positive("rope.scaling.attention_factor", _MAX_FACTOR, default=default_scale)
    num_pairs = len(frequencies)

    def pair_of(num_turns: float) -> float:
        """The pair, as a real number, that turns so often within the context."""
        return num_pairs * math.log(context / (num_turns * 2 * math.pi)) / math.log(base)

    first = max(math.floor(pair_of(fast)), 0)
    last = min(math.ceil(pair_of(slow)), 2 * num_pairs - 1)
    width = max(last - first, 0.001)
    ramp = np.clip((np.arange(num_pairs, dtype=np.float32) - np.float32(first)) / np.float32(width), 0, 1)
    kept = 1 - ramp
    return _rope((frequencies / np.float32(factor) * (1 - kept) + frequencies * kept).astype(np.float32), scale)
