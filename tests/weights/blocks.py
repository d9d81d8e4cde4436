"""Stored weights for tests: f32 values quantised by the reference formulas, and random blocks of any type."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from lepton_ai.weights.formats import WeightType

HALF_OFFSETS: Mapping[WeightType, tuple[int, ...]] = {
    WeightType.Q4_0: (0,),
    WeightType.Q4_1: (0, 2),
    WeightType.Q5_0: (0,),
    WeightType.Q5_1: (0, 2),
    WeightType.Q8_0: (0,),
    WeightType.Q2_K: (80, 82),
    WeightType.Q3_K: (108,),
    WeightType.Q4_K: (0, 2),
    WeightType.Q5_K: (0, 2),
    WeightType.Q6_K: (208,),
    WeightType.IQ4_NL: (0,),
    WeightType.IQ4_XS: (0,),
}
"""Where the f16 scales and minima lie in a block."""

ZERO_POINT_TYPES = (WeightType.INT4_G32, WeightType.INT4_G128, WeightType.INT8_G32, WeightType.INT8_G128)
"""The types that are not ggml's: an f32 scale stands first in a block."""


def quantize(values: npt.NDArray[np.float32], weight_type: WeightType) -> bytes:
    """``values`` stored as F32, F16, Q8_0 or Q4_0, by ggml's reference rounding (ggml-quants.c).

    Raises ValueError for another type.
    """
    if weight_type is WeightType.F32:
        return values.astype("<f4").tobytes()
    if weight_type is WeightType.F16:
        return values.astype("<f2").tobytes()
    groups = values.astype(np.float32).reshape(-1, 32)
    if weight_type is WeightType.Q8_0:
        scale = np.abs(groups).max(axis=1, keepdims=True) / np.float32(127)
        scaled = groups * _inverse(scale)
        codes = (np.sign(scaled) * np.floor(np.abs(scaled) + np.float32(0.5))).astype(np.int8).view(np.uint8)
    elif weight_type is WeightType.Q4_0:
        largest = np.take_along_axis(groups, np.abs(groups).argmax(axis=1, keepdims=True), axis=1)
        scale = largest / np.float32(-8)
        wide = np.minimum(groups * _inverse(scale) + np.float32(8.5), np.float32(15)).astype(np.uint8)
        codes = wide[:, :16] | (wide[:, 16:] << np.uint8(4))
    else:
        raise ValueError(f"no quantiser for {weight_type.value}")
    return np.concatenate([scale.astype("<f2").view(np.uint8), codes], axis=1).tobytes()


def random_bytes(weight_type: WeightType, shape: tuple[int, ...], rng: np.random.Generator) -> bytes:
    """Random bytes of a tensor: every code and sub-scale occurs, f16 scales are finite and about 1 in size."""
    if weight_type is WeightType.F32:
        return rng.standard_normal(shape).astype("<f4").tobytes()
    if weight_type is WeightType.F16:
        return rng.standard_normal(shape).astype("<f2").tobytes()
    if weight_type is WeightType.BF16:
        return (rng.standard_normal(shape).astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
    blocks = rng.integers(0, 256, weight_type.num_bytes(shape), np.uint8).reshape(-1, weight_type.block_bytes)
    for places, dtype in _scales(weight_type):
        blocks[:, places] = rng.standard_normal((len(blocks), 1)).astype("<f2").astype(dtype).view(np.uint8)
    return blocks.tobytes()


def put_ones(blocks: npt.NDArray[np.uint8], weight_type: WeightType) -> None:
    """Let all scales and minima of ``blocks`` be 1."""
    for places, dtype in _scales(weight_type):
        blocks[:, places] = np.ones(1, dtype).view(np.uint8)


def multiply_scales(blocks: npt.NDArray[np.uint8], weight_type: WeightType, factor: float) -> None:
    """Multiply all scales and minima of ``blocks``."""
    for places, dtype in _scales(weight_type):
        scales = blocks[:, places].copy().view(dtype).astype("<f2") * np.float16(factor)
        blocks[:, places] = scales.astype(dtype).view(np.uint8)


def _scales(weight_type: WeightType) -> list[tuple[slice, str]]:
    """Places and types of the scales and minima in a block."""
    if weight_type in ZERO_POINT_TYPES:
        return [(slice(0, 4), "<f4")]
    return [(slice(offset, offset + 2), "<f2") for offset in HALF_OFFSETS[weight_type]]


def _inverse(scale: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.divide(np.float32(1), scale, out=np.zeros_like(scale), where=scale != 0)
