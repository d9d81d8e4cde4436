"""Storage types of weights: block layouts and bit-exact dequantisation to f32.

A tensor is stored as blocks of ``block_elements`` consecutive elements of a row, ``block_bytes`` long each; scales are
little-endian f16. The layouts are those of ggml (ggml-common.h), and the order of every f32 operation is that of its
reference dequantisers, so that results agree bit for bit.

``INT4_*`` and ``INT8_*`` are Lepton's own, for integers with zero points however a checkpoint lays them out: a
little-endian f32 scale, the zero point as an i8, then unsigned codes, those of four bits in pairs, the first in the low
half. Zero point and codes count from the middle, 8 or 128: ``value = scale * (code - middle) - scale * zero_point``.
With scales that were f16 or bf16 every step of it is exact in f32, but for those of bf16 near the ends of its range.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from lepton_ai.errors import InvalidModel

Bytes = npt.NDArray[np.uint8]
SignedBytes = npt.NDArray[np.int8]
Floats = npt.NDArray[np.float32]


class WeightType(enum.Enum):
    """Element type of a stored tensor; values are the names that GGUF tools print, where these know the type."""

    F32 = "F32"
    F16 = "F16"
    BF16 = "BF16"
    Q4_0 = "Q4_0"
    Q4_1 = "Q4_1"
    Q5_0 = "Q5_0"
    Q5_1 = "Q5_1"
    Q8_0 = "Q8_0"
    Q2_K = "Q2_K"
    Q3_K = "Q3_K"
    Q4_K = "Q4_K"
    Q5_K = "Q5_K"
    Q6_K = "Q6_K"
    IQ4_NL = "IQ4_NL"
    IQ4_XS = "IQ4_XS"
    INT4_G32 = "INT4_G32"
    INT4_G128 = "INT4_G128"
    INT8_G32 = "INT8_G32"
    INT8_G128 = "INT8_G128"

    @property
    def block_elements(self) -> int:
        """Consecutive elements of a row that are stored as one block."""
        return _GEOMETRY[self][0]

    @property
    def block_bytes(self) -> int:
        """Bytes of one block, scales included."""
        return _GEOMETRY[self][1]

    @property
    def bits(self) -> int:
        """Width of one element's code, without its share of the scales."""
        return _GEOMETRY[self][2]

    @property
    def bits_per_weight(self) -> float:
        """Stored bits for each element, scales included."""
        return 8 * self.block_bytes / self.block_elements

    def num_bytes(self, shape: tuple[int, ...]) -> int:
        """Bytes of a tensor of row-major ``shape``. Raises InvalidModel if blocks do not divide its rows."""
        inner = shape[-1] if shape else 1
        if inner % self.block_elements:
            raise InvalidModel(f"{self.value}: rows of {inner} elements are not whole blocks of {self.block_elements}")
        return math.prod(shape) // self.block_elements * self.block_bytes


_GEOMETRY: Final[Mapping[WeightType, tuple[int, int, int]]] = {
    WeightType.F32: (1, 4, 32),
    WeightType.F16: (1, 2, 16),
    WeightType.BF16: (1, 2, 16),
    WeightType.Q4_0: (32, 18, 4),
    WeightType.Q4_1: (32, 20, 4),
    WeightType.Q5_0: (32, 22, 5),
    WeightType.Q5_1: (32, 24, 5),
    WeightType.Q8_0: (32, 34, 8),
    WeightType.Q2_K: (256, 84, 2),
    WeightType.Q3_K: (256, 110, 3),
    WeightType.Q4_K: (256, 144, 4),
    WeightType.Q5_K: (256, 176, 5),
    WeightType.Q6_K: (256, 210, 6),
    WeightType.IQ4_NL: (32, 18, 4),
    WeightType.IQ4_XS: (256, 136, 4),
    WeightType.INT4_G32: (32, 21, 4),
    WeightType.INT4_G128: (128, 69, 4),
    WeightType.INT8_G32: (32, 37, 8),
    WeightType.INT8_G128: (128, 133, 8),
}
"""Elements and bytes of a block, bits of a code."""


IQ4_VALUES: Final = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
"""What the 16 codes of IQ4_NL and IQ4_XS stand for (``kvalues_iq4nl``)."""


def dequantize(data: Bytes, weight_type: WeightType, shape: tuple[int, ...]) -> Floats:
    """The f32 values of a stored tensor, as a new array of row-major ``shape``.

    ``data`` holds exactly the tensor's bytes, contiguous. Raises InvalidModel for any other length.
    """
    expected = weight_type.num_bytes(shape)
    if data.nbytes != expected:
        raise InvalidModel(f"{weight_type.value} {shape}: expected {expected} bytes, got {data.nbytes}")
    blocks = data.reshape(-1, weight_type.block_bytes)
    values = np.empty((len(blocks), weight_type.block_elements), np.float32)
    decode = _DECODERS[weight_type]
    step = max(1, _CHUNK_ELEMENTS // weight_type.block_elements)
    # A hostile file may hold infinite, NaN or huge scales: they give what IEEE 754 gives, without a warning.
    with np.errstate(invalid="ignore", over="ignore"):
        for start in range(0, len(blocks), step):
            values[start : start + step] = decode(blocks[start : start + step])
    return values.reshape(shape)


_CHUNK_ELEMENTS: Final = 1 << 17
"""Elements decoded at a time: the temporaries stay in the second-level cache."""


def _half(blocks: Bytes, offset: int) -> Floats:
    """The f16 at byte ``offset`` of every block, ``[n, 1]``."""
    return np.ascontiguousarray(blocks[:, offset : offset + 2]).view("<f2").astype(np.float32)


def _nibbles(codes: Bytes, width: int) -> Bytes:
    """4-bit codes ``[n, elements]``: each run of ``width`` bytes holds ``width`` low nibbles, then the high ones."""
    runs = codes.reshape(len(codes), -1, 1, width)
    return np.concatenate([runs & 0x0F, runs >> 4], axis=2).reshape(len(codes), -1)


def _bit_planes(codes: Bytes, width: int, bits: int) -> Bytes:
    """``bits``-wide codes ``[n, elements]``: each run of ``width`` bytes holds ``8 / bits`` planes, lowest first."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8).reshape(1, 1, -1, 1)
    planes = codes.reshape(len(codes), -1, 1, width) >> shifts
    return (planes & np.uint8((1 << bits) - 1)).reshape(len(codes), -1)


def _f32(blocks: Bytes) -> Floats:
    return np.ascontiguousarray(blocks).view("<f4").astype(np.float32, copy=False)


def _f16(blocks: Bytes) -> Floats:
    return _half(blocks, 0)


def _bf16(blocks: Bytes) -> Floats:
    upper = np.ascontiguousarray(blocks).view("<u2").astype(np.uint32) << np.uint32(16)
    return upper.view(np.float32)


def _q4_0(blocks: Bytes) -> Floats:
    codes = _nibbles(blocks[:, 2:], 16).view(np.int8) - np.int8(8)
    return _half(blocks, 0) * codes.astype(np.float32)


def _q4_1(blocks: Bytes) -> Floats:
    return _half(blocks, 0) * _nibbles(blocks[:, 4:], 16).astype(np.float32) + _half(blocks, 2)


def _q5_0(blocks: Bytes) -> Floats:
    high = np.unpackbits(blocks[:, 2:6], axis=1, bitorder="little") << np.uint8(4)
    codes = (_nibbles(blocks[:, 6:], 16) | high).view(np.int8) - np.int8(16)
    return _half(blocks, 0) * codes.astype(np.float32)


def _q5_1(blocks: Bytes) -> Floats:
    high = np.unpackbits(blocks[:, 4:8], axis=1, bitorder="little") << np.uint8(4)
    codes = _nibbles(blocks[:, 8:], 16) | high
    return _half(blocks, 0) * codes.astype(np.float32) + _half(blocks, 2)


def _q8_0(blocks: Bytes) -> Floats:
    return blocks[:, 2:].view(np.int8).astype(np.float32) * _half(blocks, 0)


def _k_scales(blocks: Bytes) -> tuple[Floats, Floats]:
    """The scales and minima of Q4_K and Q5_K, both ``[n, 8]``: two f16 times the 6-bit integers of 12 bytes.

    Bytes 0-3 hold scales 0-3 and bytes 4-7 minima 0-3 in their low 6 bits, and the top 2 bits of numbers 4-7 above
    them; bytes 8-11 hold the low 4 bits of scales 4-7 (low nibble) and of minima 4-7 (high nibble).
    """
    scales, minima, low = blocks[:, 4:8], blocks[:, 8:12], blocks[:, 12:16]
    scales = np.concatenate([scales & 0x3F, (low & 0x0F) | ((scales >> 2) & 0x30)], axis=1)
    minima = np.concatenate([minima & 0x3F, (low >> 4) | ((minima >> 2) & 0x30)], axis=1)
    return _half(blocks, 0) * scales.astype(np.float32), _half(blocks, 2) * minima.astype(np.float32)


def _scaled_sixteens(d: Floats, scales: SignedBytes, codes: SignedBytes) -> Floats:
    """``(d * scale) * code`` for the sixteen groups of 16 of Q3_K and Q6_K."""
    scale = (d * scales.astype(np.float32))[:, :, np.newaxis]
    return (scale * codes.reshape(-1, 16, 16).astype(np.float32)).reshape(-1, 256)


def _scaled_with_minima(scales: Floats, minima: Floats, codes: Bytes) -> Floats:
    """``scale * code - minimum`` with scales and minima ``[n, groups]``."""
    groups = codes.reshape(*scales.shape, -1).astype(np.float32)
    return (scales[:, :, np.newaxis] * groups - minima[:, :, np.newaxis]).reshape(codes.shape)


def _q2_k(blocks: Bytes) -> Floats:
    """Each of the first 16 bytes holds the scale (low nibble) and the minimum of 16 codes."""
    scales = _half(blocks, 80) * (blocks[:, :16] & 0x0F).astype(np.float32)
    minima = _half(blocks, 82) * (blocks[:, :16] >> 4).astype(np.float32)
    return _scaled_with_minima(scales, minima, _bit_planes(blocks[:, 16:80], 32, 2))


def _q3_k(blocks: Bytes) -> Floats:
    """Bytes 96-103 hold the low nibbles of 16 scales, bytes 104-107 their upper two bits; 32 is taken off."""
    codes = _bit_planes(blocks[:, 32:96], 32, 2) | (_bit_planes(blocks[:, :32], 32, 1) << np.uint8(2))
    scales = _nibbles(blocks[:, 96:104], 8) | (_bit_planes(blocks[:, 104:108], 4, 2) << np.uint8(4))
    return _scaled_sixteens(_half(blocks, 108), scales.view(np.int8) - np.int8(32), codes.view(np.int8) - np.int8(4))


def _q4_k(blocks: Bytes) -> Floats:
    return _scaled_with_minima(*_k_scales(blocks), _nibbles(blocks[:, 16:], 32))


def _q5_k(blocks: Bytes) -> Floats:
    high = _bit_planes(blocks[:, 16:48], 32, 1) << np.uint8(4)
    return _scaled_with_minima(*_k_scales(blocks), _nibbles(blocks[:, 48:], 32) | high)


def _q6_k(blocks: Bytes) -> Floats:
    low, high = _nibbles(blocks[:, :128], 64), _bit_planes(blocks[:, 128:192], 32, 2)
    codes = (low | (high << np.uint8(4))).view(np.int8) - np.int8(32)
    return _scaled_sixteens(_half(blocks, 208), blocks[:, 192:208].view(np.int8), codes)


def _iq4_values(codes: Bytes) -> Floats:
    return np.array(IQ4_VALUES, np.float32)[_nibbles(codes, 16)]


def _iq4_nl(blocks: Bytes) -> Floats:
    return _half(blocks, 0) * _iq4_values(blocks[:, 2:])


def _iq4_xs(blocks: Bytes) -> Floats:
    """Bytes 2-3 hold the upper two bits of eight scales, bytes 4-7 their low nibbles; 32 is taken off."""
    scales = _nibbles(blocks[:, 4:8], 1) | (_bit_planes(blocks[:, 2:4], 1, 2) << np.uint8(4))
    scale = _half(blocks, 0) * (scales.view(np.int8) - np.int8(32)).astype(np.float32)
    return (scale[:, :, np.newaxis] * _iq4_values(blocks[:, 8:]).reshape(-1, 8, 32)).reshape(-1, 256)


def _with_zero_point(blocks: Bytes, codes: SignedBytes) -> Floats:
    """``codes`` ``[n, elements]`` less the middle, with the scales and zero points of their blocks."""
    scale, zero_point = _f32(blocks[:, :4]), blocks[:, 4:5].view(np.int8).astype(np.float32)
    return scale * codes.astype(np.float32) - scale * zero_point


def _int4(blocks: Bytes) -> Floats:
    return _with_zero_point(blocks, _nibbles(blocks[:, 5:], 1).view(np.int8) - np.int8(8))


def _int8(blocks: Bytes) -> Floats:
    return _with_zero_point(blocks, (blocks[:, 5:] ^ np.uint8(0x80)).view(np.int8))


_DECODERS: Final[Mapping[WeightType, Callable[[Bytes], Floats]]] = {
    WeightType.F32: _f32,
    WeightType.F16: _f16,
    WeightType.BF16: _bf16,
    WeightType.Q4_0: _q4_0,
    WeightType.Q4_1: _q4_1,
    WeightType.Q5_0: _q5_0,
    WeightType.Q5_1: _q5_1,
    WeightType.Q8_0: _q8_0,
    WeightType.Q2_K: _q2_k,
    WeightType.Q3_K: _q3_k,
    WeightType.Q4_K: _q4_k,
    WeightType.Q5_K: _q5_k,
    WeightType.Q6_K: _q6_k,
    WeightType.IQ4_NL: _iq4_nl,
    WeightType.IQ4_XS: _iq4_xs,
    WeightType.INT4_G32: _int4,
    WeightType.INT4_G128: _int4,
    WeightType.INT8_G32: _int8,
    WeightType.INT8_G128: _int8,
}
