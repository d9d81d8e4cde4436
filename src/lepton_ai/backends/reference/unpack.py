"""Stored blocks -> integer codes, scales and minima. For the layouts see ``weights/formats.py``."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lepton_ai.backends.base import Float32Array
from lepton_ai.weights.formats import IQ4_VALUES, WeightType

Bytes = npt.NDArray[np.uint8]
Codes = npt.NDArray[np.int8]
Unpacked = tuple[Codes, Float32Array, Float32Array | None]


def unpack(blocks: Bytes, weight_type: WeightType) -> Unpacked:
    """Codes ``[B, elements]`` (offset taken off, or looked up), scales and minima ``[B, groups]`` of ``B`` blocks.

    ``value = scale * code + minimum``. ``weight_type`` is a block type: none of F32, F16 and BF16.
    """
    codes, scales, minima = _UNPACKERS[weight_type](blocks)
    return codes.reshape(len(blocks), -1), scales, minima


def _half(blocks: Bytes, at: int) -> Float32Array:
    """The f16 at byte ``at`` of each block, ``[B, 1]``."""
    return blocks[:, at : at + 2].copy().view("<f2").astype(np.float32)


def _nibbles(packed: Bytes) -> Bytes:
    """Low halves of all bytes, then high halves."""
    return np.concatenate([packed & 15, packed >> 4], axis=-1)


def _signed(codes: npt.NDArray[np.integer[Any]], offset: int) -> Codes:
    return (codes.astype(np.int16) - offset).astype(np.int8)


def _unpack_q4_0(blocks: Bytes) -> Unpacked:
    return _signed(_nibbles(blocks[:, 2:]), 8), _half(blocks, 0), None


def _unpack_q4_1(blocks: Bytes) -> Unpacked:
    return _signed(_nibbles(blocks[:, 4:]), 0), _half(blocks, 0), _half(blocks, 2)


def _unpack_q5_0(blocks: Bytes) -> Unpacked:
    fifth = np.unpackbits(blocks[:, 2:6], axis=1, bitorder="little")
    return _signed(_nibbles(blocks[:, 6:]) | fifth << 4, 16), _half(blocks, 0), None


def _unpack_q5_1(blocks: Bytes) -> Unpacked:
    fifth = np.unpackbits(blocks[:, 4:8], axis=1, bitorder="little")
    return _signed(_nibbles(blocks[:, 8:]) | fifth << 4, 0), _half(blocks, 0), _half(blocks, 2)


def _unpack_q8_0(blocks: Bytes) -> Unpacked:
    return blocks[:, 2:].view(np.int8), _half(blocks, 0), None


def _k_scales(blocks: Bytes) -> tuple[Float32Array, Float32Array]:
    """Scales and (negated) minima of the eight groups of a Q4_K or Q5_K block: 6-bit integers times two f16."""
    packed = blocks[:, 4:16]
    first, second, third = packed[:, 0:4], packed[:, 4:8], packed[:, 8:12]
    scales = np.concatenate([first & 63, third & 15 | first >> 6 << 4], axis=1)
    minima = np.concatenate([second & 63, third >> 4 | second >> 6 << 4], axis=1)
    return _half(blocks, 0) * scales.astype(np.float32), -(_half(blocks, 2) * minima.astype(np.float32))


def _unpack_q2_k(blocks: Bytes) -> Unpacked:
    """Two halves of 128 codes in 32 bytes of pairs of bits each; a byte of scale and minimum for each 16."""
    codes = blocks[:, 16:80].reshape(-1, 2, 1, 32) >> np.array([0, 2, 4, 6], dtype=np.uint8)[:, None] & 3
    scales, minima = (blocks[:, :16] & 15).astype(np.float32), (blocks[:, :16] >> 4).astype(np.float32)
    return _signed(codes, 0), _half(blocks, 80) * scales, -(_half(blocks, 82) * minima)


def _unpack_q3_k(blocks: Bytes) -> Unpacked:
    """Two halves of 128 codes in 32 bytes of pairs of bits each; the third bit of group g of 32 is bit g of 32 bytes.

    Of sixteen 6-bit scales, 8 bytes hold the low nibbles and 4 bytes the upper pairs of bits.
    """
    pairs = np.array([0, 2, 4, 6], dtype=np.uint8)[:, None]
    low = blocks[:, 32:96].reshape(-1, 2, 1, 32) >> pairs & 3
    third = blocks[:, None, :32] >> np.arange(8, dtype=np.uint8)[:, None] & 1
    high = blocks[:, None, 104:108] >> pairs & 3
    scales = _signed(_nibbles(blocks[:, 96:104]) | high.reshape(-1, 16) << 4, 32)
    codes = _signed(low.reshape(-1, 8, 32) | third << 2, 4)
    return codes, _half(blocks, 108) * scales.astype(np.float32), None


def _unpack_q4_k(blocks: Bytes) -> Unpacked:
    """Each 32 bytes hold two groups: low halves the first, high halves the second."""
    return _signed(_nibbles(blocks[:, 16:].reshape(-1, 4, 32)), 0), *_k_scales(blocks)


def _unpack_q5_k(blocks: Bytes) -> Unpacked:
    """As Q4_K; the fifth bit of group g is bit g of 32 bytes that stand before."""
    fifth = blocks[:, None, 16:48] >> np.arange(8, dtype=np.uint8)[:, None] & 1
    low = _nibbles(blocks[:, 48:].reshape(-1, 4, 32)).reshape(-1, 8, 32)
    return _signed(low | fifth << 4, 0), *_k_scales(blocks)


def _unpack_q6_k(blocks: Bytes) -> Unpacked:
    """Two halves of 128 codes: 64 bytes of low nibbles, 32 bytes of high pairs of bits; one i8 scale for each 16."""
    low = _nibbles(blocks[:, :128].reshape(-1, 2, 64)).reshape(-1, 2, 4, 32)
    shifts = np.array([0, 2, 4, 6], dtype=np.uint8)[:, None]
    high = blocks[:, 128:192].reshape(-1, 2, 1, 32) >> shifts & 3
    scales = _half(blocks, 208) * blocks[:, 192:208].view(np.int8).astype(np.float32)
    return _signed(low | high << 4, 32), scales, None


def _iq4_values(packed: Bytes) -> Codes:
    return np.array(IQ4_VALUES, np.int8)[_nibbles(packed)]


def _unpack_iq4_nl(blocks: Bytes) -> Unpacked:
    return _iq4_values(blocks[:, 2:]), _half(blocks, 0), None


def _unpack_iq4_xs(blocks: Bytes) -> Unpacked:
    """Each 16 bytes hold a group. Scales are 6 bits wide: their upper pairs of bits in 2 bytes, low nibbles in 4."""
    high = blocks[:, 2:4, None] >> np.array([0, 2, 4, 6], dtype=np.uint8) & 3
    low = blocks[:, 4:8, None] >> np.array([0, 4], dtype=np.uint8) & 15
    scales = _signed(low.reshape(-1, 8) | high.reshape(-1, 8) << 4, 32)
    return _iq4_values(blocks[:, 8:].reshape(-1, 8, 16)), _half(blocks, 0) * scales.astype(np.float32), None


def _zero_points(blocks: Bytes, codes: Codes) -> Unpacked:
    """``minimum = -scale * zero_point``; both stand once for each 32 codes."""
    scales = blocks[:, :4].copy().view("<f4").astype(np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        minima = np.float32(0) - scales * blocks[:, 4:5].view(np.int8).astype(np.float32)
    num_groups = codes.shape[1] // 32
    return codes, np.repeat(scales, num_groups, axis=1), np.repeat(minima, num_groups, axis=1)


def _unpack_int4(blocks: Bytes) -> Unpacked:
    """The first code of a pair is the low half."""
    pairs = np.stack([blocks[:, 5:] & 15, blocks[:, 5:] >> 4], axis=-1)
    return _zero_points(blocks, _signed(pairs.reshape(len(blocks), -1), 8))


def _unpack_int8(blocks: Bytes) -> Unpacked:
    return _zero_points(blocks, _signed(blocks[:, 5:], 128))


_UNPACKERS = {
    WeightType.Q4_0: _unpack_q4_0,
    WeightType.Q4_1: _unpack_q4_1,
    WeightType.Q5_0: _unpack_q5_0,
    WeightType.Q5_1: _unpack_q5_1,
    WeightType.Q8_0: _unpack_q8_0,
    WeightType.Q2_K: _unpack_q2_k,
    WeightType.Q3_K: _unpack_q3_k,
    WeightType.Q4_K: _unpack_q4_k,
    WeightType.Q5_K: _unpack_q5_k,
    WeightType.Q6_K: _unpack_q6_k,
    WeightType.IQ4_NL: _unpack_iq4_nl,
    WeightType.IQ4_XS: _unpack_iq4_xs,
    WeightType.INT4_G32: _unpack_int4,
    WeightType.INT4_G128: _unpack_int4,
    WeightType.INT8_G32: _unpack_int8,
    WeightType.INT8_G128: _unpack_int8,
}
