"""Weights as the reference holds them: f32 values, or integer codes with scales and minima per group."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from lepton_ai.backends.base import Float32Array, Int32Array
from lepton_ai.backends.reference.unpack import Codes, unpack
from lepton_ai.graph.tensor import ROTATION, DType, round_up
from lepton_ai.weights.formats import dequantize
from lepton_ai.weights.store import StoredTensor


@dataclass(frozen=True, slots=True)
class DenseWeight:
    """Values of any shape in f32."""

    array: Float32Array

    def values(self) -> Float32Array:
        """All values."""
        return self.array

    def rows(self, indices: Int32Array) -> Float32Array:
        """The values of some rows."""
        return self.array[indices]


@dataclass(frozen=True, slots=True)
class GroupedWeight:
    """A matrix ``(N, C)``: ``value = scale * code + minimum`` with one scale (and minimum) per group of a row.

    ``codes`` ``[N, P]`` with the type's offset taken off, zero past column C; ``P`` is C rounded up to 32; ``scales``
    and ``minima`` ``[N, P / group]``. ``bits`` is the width of a code as it is stored.
    """

    codes: Codes
    scales: Float32Array
    minima: Float32Array | None
    bits: int
    num_columns: int

    @property
    def group(self) -> int:
        """Columns that share a scale."""
        return int(self.codes.shape[1] // self.scales.shape[1])

    def values(self) -> Float32Array:
        """All values in f32, ``[N, C]``: the product rounded, then the minimum added, as the formats define."""
        values = self.codes.astype(np.float32) * np.repeat(self.scales, self.group, axis=1)
        if self.minima is not None:
            values += np.repeat(self.minima, self.group, axis=1)
        return values[:, : self.num_columns]

    def rows(self, indices: Int32Array) -> Float32Array:
        """The values of some rows."""
        minima = None if self.minima is None else self.minima[indices]
        return replace(self, codes=self.codes[indices], scales=self.scales[indices], minima=minima).values()


HeldWeight = DenseWeight | GroupedWeight


def hold(stored: StoredTensor, narrowing: DType | None = None) -> HeldWeight:
    """A stored tensor, unpacked. ``narrowing``: how a matrix wider than 8 bits is held in them, as
    ``Q8``, ``R8`` or ``R8_ROW``."""
    if stored.type.block_elements == 1:
        values = dequantize(stored.data.reshape(-1), stored.type, stored.shape)
        return narrow(values, narrowing) if narrowing else DenseWeight(values)
    num_rows, num_columns = stored.shape
    codes, scales, minima = unpack(stored.data.reshape(-1, stored.type.block_bytes), stored.type)
    return GroupedWeight(
        codes.reshape(num_rows, num_columns),
        scales.reshape(num_rows, -1),
        None if minima is None else minima.reshape(num_rows, -1),
        stored.type.bits,
        num_columns,
    )


def narrow(values: Float32Array, narrowing: DType) -> GroupedWeight:
    """A matrix in 8 bits: rotated, with a scale for each block of 128 or each row, or in groups of 32."""
    if not narrowing.is_rotated:
        return quantize_to_8_bits(values)
    codes, scales = quantize_rotated(values, narrowing)
    return GroupedWeight(codes, scales, None, 8, values.shape[1])


def quantize_rotated(x: Float32Array, dtype: DType) -> tuple[Codes, Float32Array]:
    """Codes ``[T, C]`` and scales ``[T, C / 128]`` (``R8``) or ``[T, 1]`` (``R8_ROW``) of rotated rows: the rule of
    ``graph/passes/precision.py``.
    """
    if dtype is DType.R8_ROW:
        codes, scales = quantize_groups(rotate_rows(x)[:, None])
        return codes.reshape(x.shape), scales * np.float32(1 / np.sqrt(row_rotation(x.shape[1])))
    codes, scales = quantize_groups(rotate(x).reshape(len(x), -1, ROTATION))
    return codes.reshape(x.shape), scales * np.float32(1 / np.sqrt(ROTATION))


def row_rotation(num_columns: int) -> int:
    """Values of an ``R8_ROW`` that are transformed together: the largest power of two that divides it."""
    return num_columns & -num_columns


def rotate_rows(x: Float32Array) -> Float32Array:
    """Whole rows ``[T, C]``: each part of ``row_rotation(C)`` transformed, then all reflected; not normalised."""
    size = row_rotation(x.shape[1])
    parts = rotate(x, size).reshape(len(x), -1, size)
    if parts.shape[1] == 1:
        return parts[:, 0]
    total = parts[:, 0]
    with np.errstate(invalid="ignore", over="ignore"):
        for i in range(1, parts.shape[1]):
            total = total + parts[:, i]
        return (parts - (total * np.float32(2 / parts.shape[1]))[:, None]).reshape(x.shape)


def rotate(x: Float32Array, size: int = ROTATION) -> Float32Array:
    """The Walsh-Hadamard transform of each block of ``size``, a power of two, of the last axis; not normalised."""
    distance = size // 2
    with np.errstate(invalid="ignore", over="ignore"):
        while distance:
            pairs = x.reshape(-1, 2, distance)
            first, second = pairs[:, 0], pairs[:, 1]
            x = np.stack([first + second, first - second], axis=1).reshape(x.shape)
            distance //= 2
    return x


def quantize_to_8_bits(values: Float32Array) -> GroupedWeight:
    """Groups of 32: ``code = round_half_even(x * (127 / max|x|))`` in f32, ``scale = f16(max|x| / 127)``.

    The rule is that of activations (``graph/passes/precision.py``), tiny and non-finite groups included, but for the
    scale's rounding: panels hold f16.
    """
    codes, scales = quantize_groups(_padded_groups(values, 32))
    scales = _as_half(scales)
    return GroupedWeight(codes.reshape(len(values), -1), scales, None, 8, values.shape[1])


def quantize_groups(groups: Float32Array) -> tuple[Codes, Float32Array]:
    """Symmetric 8-bit codes and scales of ``[..., G, size]``: the rule stated in ``graph/passes/precision.py``."""
    return np.rint(scale_groups(groups)).astype(np.int8), _scales(groups, 127)


def quantize_wide(heads: Float32Array) -> tuple[npt.NDArray[np.int16], Float32Array]:
    """16-bit codes and scales of heads ``[..., D]``: the rule stated in ``graph.attrs.KVSpec``."""
    codes = np.rint(scale_groups(heads, 32639)).astype(np.int16)
    return codes + (codes % np.int16(256) == 128), _scales(heads, 32639)


def _scales(groups: Float32Array, largest_code: int) -> Float32Array:
    largest = np.abs(groups).max(axis=-1)
    unusable_scales = np.where(np.isfinite(largest), np.float32(0), np.float32(np.nan))
    return np.where(_is_usable(largest), largest / np.float32(largest_code), unusable_scales)


def scale_groups(groups: Float32Array, largest_code: int = 127) -> Float32Array:
    """``[..., G, size]`` in steps of each group's scale, before rounding: at most ``largest_code``; 0 in groups without
    a scale.
    """
    largest = np.abs(groups).max(axis=-1)
    is_usable = _is_usable(largest)
    inverse = np.float32(largest_code) / np.where(is_usable, largest, np.float32(1))
    return (np.where(is_usable[..., None], groups, np.float32(0)) * inverse[..., None]).astype(np.float32)


def _is_usable(largest: Float32Array) -> npt.NDArray[np.bool_]:
    return (largest >= np.float32(2.0**-100)) & np.isfinite(largest)


def _padded_groups(values: Float32Array, group: int) -> Float32Array:
    num_rows, num_columns = values.shape
    padded = np.zeros((num_rows, round_up(num_columns, 32)), np.float32)
    padded[:, :num_columns] = values
    return padded.reshape(num_rows, -1, group)


def _as_half(values: Float32Array) -> Float32Array:
    with np.errstate(over="ignore"):
        return values.astype(np.float16).astype(np.float32)
