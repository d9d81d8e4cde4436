"""Quantised activations and the exact integer matrix product that ``graph/ops.py`` states for ``linear``."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from lepton_ai.backends.base import Float32Array
from lepton_ai.backends.reference.unpack import Codes
from lepton_ai.backends.reference.weights import GroupedWeight, quantize_groups, quantize_rotated, scale_groups
from lepton_ai.graph.tensor import Q8_GROUP, DType, round_up

Float64Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Q8Rows:
    """A ``Q8`` tensor: ``codes`` ``[T, P]`` with P the columns rounded up to 32, ``scales`` ``[T, P / 32]``.

    An ``R8`` tensor has a scale for each 128 columns, an ``R8_ROW`` one for all.

    A ``Q16`` tensor has ``rest`` too, the shape of ``codes``: what they left over, in 256ths.
    """

    codes: Codes
    scales: Float32Array
    rest: Codes | None = None

    def integers(self, num_terms: int) -> tuple[Float64Array, Float32Array]:
        """The integers that ``num_terms`` 8-bit rows make, and their scales."""
        if num_terms == 1:
            return self.codes.astype(np.float64), self.scales
        assert self.rest is not None, "two terms are asked of a Q8 tensor"
        return self.codes * np.float64(256) + self.rest, self.scales / np.float32(256)


def quantize_rows(x: Float32Array, dtype: DType) -> Q8Rows:
    """Rows ``[T, C]`` as quantised, by the rules stated in ``graph/passes/precision.py``."""
    if dtype.is_rotated:
        return Q8Rows(*quantize_rotated(x, dtype))
    padded = np.zeros((len(x), round_up(x.shape[1], Q8_GROUP)), np.float32)
    padded[:, : x.shape[1]] = x
    groups = padded.reshape(len(x), -1, Q8_GROUP)
    codes, scales = quantize_groups(groups)
    rows = Q8Rows(codes.reshape(padded.shape), scales)
    if dtype is DType.Q8:
        return rows
    rest = np.minimum(np.rint((scale_groups(groups) - codes) * np.float32(256)), np.float32(127))
    return replace(rows, rest=rest.astype(np.int8).reshape(padded.shape))


def fma(a: Float32Array, b: Float32Array, c: Float32Array) -> Float32Array:
    """``a * b + c`` rounded once to f32, as the instruction does it.

    The product is exact in f64. The sum is rounded to odd there (Boldo & Melquiond 2008), from the error term that
    TwoSum gives, so that rounding it again to f32 rounds the exact value.
    """
    product, addend = a.astype(np.float64) * b, c.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        total = product + addend
        virtual = total - product
        error = (product - (total - virtual)) + (addend - virtual)
        is_even = (total.view(np.int64) & 1) == 0
        toward = np.where(error > 0, np.inf, -np.inf)
        total = np.where((error != 0) & is_even & np.isfinite(error), np.nextafter(total, toward), total)
        return total.astype(np.float32)


def matmul_quantized(x: Q8Rows, weight: GroupedWeight, num_terms: int) -> Float32Array:
    """``x @ weight^T`` -> ``[T, N]`` with the integers that the first ``num_terms`` 8-bit rows of each row of x make.

    Weight groups (of 16, 32, 128 or all inputs) in ascending order, an exact integer dot product for each:
    ``acc = fma(f32(idot) * x_scale, w_scale, acc)``, then with minima ``acc = fma(w_min, x_scale * f32(isum), acc)``.
    """
    integers, scales = x.integers(num_terms)
    w_codes = weight.codes.astype(np.float64)
    out = np.zeros((len(integers), len(w_codes)), np.float32)
    for column in range(0, integers.shape[1], weight.group):
        columns, x_group = slice(column, column + weight.group), column * scales.shape[1] // integers.shape[1]
        # Exact in f64, whatever the order: a few thousand products of 16-bit and 8-bit integers at most.
        dots = (integers[:, columns] @ w_codes[:, columns].T).astype(np.float32)
        x_scales, w_group = scales[:, x_group : x_group + 1], column // weight.group
        with np.errstate(invalid="ignore"):
            out = fma(dots * x_scales, weight.scales[:, w_group], out)
            if weight.minima is not None:
                sums = integers[:, columns].sum(axis=1, keepdims=True).astype(np.float32)
                out = fma(weight.minima[:, w_group], x_scales * sums, out)
    return out
