from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from tests.models.tiny import random_tensor

from lepton_ai.backends.reference.quantized import Q8Rows, fma, matmul_quantized, quantize_rows
from lepton_ai.backends.reference.weights import GroupedWeight, hold, quantize_to_8_bits
from lepton_ai.graph.tensor import DType
from lepton_ai.weights.formats import WeightType

NARROW = [t for t in WeightType if t.bits <= 8]


def rounded(value: Fraction) -> np.float32:
    """The f32 nearest to a fraction, ties to even."""
    if value == 0:
        return np.float32(0)
    exponent = max(-126, math.floor(math.log2(abs(value))))
    while abs(value) >= Fraction(2) ** (exponent + 1):
        exponent += 1
    while exponent > -126 and abs(value) < Fraction(2) ** exponent:
        exponent -= 1
    unit = Fraction(2) ** (exponent - 23)
    return np.float32(float(round(value / unit) * unit))


def test_fma_rounds_once() -> None:
    rng = np.random.default_rng(0)
    a, b, c = (rng.standard_normal(2000).astype(np.float32) for _ in range(3))
    c *= np.float32(2) ** rng.integers(-50, 30, 2000).astype(np.float32)
    exact = [
        rounded(Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))) for x, y, z in zip(a, b, c, strict=True)
    ]
    assert np.array_equal(fma(a, b, c), np.array(exact))


def test_fma_where_rounding_twice_would_be_wrong() -> None:
    # The sum lies 2^-70 below the middle of two f32 numbers: f64 cannot tell, and ties go up to the even one.
    a, b, c = (np.array([v], np.float32) for v in (1 + 2.0**-23, 2.0**-24 * (1 - 2.0**-23), 1 + 2.0**-23))
    assert fma(a, b, c) == np.float32(1 + 2.0**-23)
    assert (a.astype(np.float64) * b + c).astype(np.float32) == np.float32(1 + 2.0**-22)


def test_quantised_rows_are_padded_to_groups() -> None:
    rows = quantize_rows(np.linspace(-1, 1, 2 * 40, dtype=np.float32).reshape(2, 40), DType.Q8)
    assert (rows.codes.shape, rows.scales.shape) == ((2, 64), (2, 2))
    assert np.abs(rows.codes[:, :40]).max() == 127 and not rows.codes[:, 40:].any()


def slow_matmul(x: Q8Rows, weight: GroupedWeight) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """The contract of ``linear`` in Python integers and fractions, one element at a time."""
    out = np.zeros((len(x.codes), len(weight.codes)), np.float32)
    step = weight.group
    for t in range(out.shape[0]):
        for n in range(out.shape[1]):
            acc = np.float32(0)
            for g in range(weight.scales.shape[1]):
                xs = [int(v) for v in x.codes[t, g * step : (g + 1) * step]]
                ws = [int(v) for v in weight.codes[n, g * step : (g + 1) * step]]
                x_scale = x.scales[t, g * step // 32]
                product = np.float32(sum(p * q for p, q in zip(xs, ws, strict=True))) * x_scale
                acc = _fma(product, weight.scales[n, g], acc)
                if weight.minima is not None:
                    acc = _fma(weight.minima[n, g], x_scale * np.float32(sum(xs)), acc)
            out[t, n] = acc
    return out


def _fma(a: np.float32, b: np.float32, c: np.float32) -> np.float32:
    return rounded(Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c)))


@pytest.mark.parametrize("weight_type", NARROW)
def test_matmul_is_the_contract_bit_for_bit(weight_type: WeightType) -> None:
    weight = hold(random_tensor("w", (3, 256), weight_type, seed=7))
    assert isinstance(weight, GroupedWeight)
    x = quantize_rows(np.random.default_rng(8).standard_normal((2, 256)).astype(np.float32), DType.Q8)
    assert np.array_equal(matmul_quantized(x, weight, 1), slow_matmul(x, weight))


@pytest.mark.parametrize("weight_type", NARROW)
def test_matmul_is_close_to_the_product_of_values(weight_type: WeightType) -> None:
    weight = hold(random_tensor("w", (9, 512), weight_type, seed=9))
    assert isinstance(weight, GroupedWeight)
    x = np.random.default_rng(10).standard_normal((4, 512)).astype(np.float32)
    exact = x.astype(np.float64) @ weight.values().astype(np.float64).T
    assert np.abs(matmul_quantized(quantize_rows(x, DType.Q8), weight, 1) - exact).max() < 0.01 * np.abs(exact).max()


@pytest.mark.parametrize("weight_type", NARROW)
def test_two_terms_are_much_closer_to_the_product_of_values(weight_type: WeightType) -> None:
    weight = hold(random_tensor("w", (9, 512), weight_type, seed=9))
    assert isinstance(weight, GroupedWeight)
    x = np.random.default_rng(10).standard_normal((4, 512)).astype(np.float32)
    exact = x.astype(np.float64) @ weight.values().astype(np.float64).T
    rows = quantize_rows(x, DType.Q16)
    one, two = (np.abs(matmul_quantized(rows, weight, terms) - exact).max() for terms in (1, 2))
    assert two < one / 50


def test_the_first_term_alone_is_the_8_bit_row() -> None:
    x = np.random.default_rng(13).standard_normal((3, 70)).astype(np.float32)
    weight = quantize_to_8_bits(np.random.default_rng(14).standard_normal((5, 70)).astype(np.float32))
    narrow, wide = (quantize_rows(x, dtype) for dtype in (DType.Q8, DType.Q16))
    assert np.array_equal(narrow.codes, wide.codes) and np.array_equal(narrow.scales, wide.scales)
    assert np.array_equal(matmul_quantized(wide, weight, 1), matmul_quantized(narrow, weight, 1))


def test_the_second_term_is_what_the_first_left_over() -> None:
    x = np.random.default_rng(15).standard_normal((3, 64)).astype(np.float32)
    integers, scales = quantize_rows(x, DType.Q16).integers(2)
    step = np.repeat(scales, 32, axis=1).astype(np.float64)
    # Half a step, or a whole one where the rest was cut off at 127.
    assert np.abs(x - step * integers).max() <= 1.01 * scales.max()
    assert np.quantile(np.abs(x - step * integers) / step, 0.9) <= 0.51
    assert np.array_equal(scales, quantize_rows(x, DType.Q8).scales / np.float32(256))


def test_the_rest_stays_in_8_bits_at_ties() -> None:
    x = np.zeros((1, 32), np.float32)
    x[0, :3] = 127.0, 0.5, 1.5  # steps of 1: the half is rounded to even, and 128 are left of the first
    rows = quantize_rows(x, DType.Q16)
    assert rows.codes[0, :3].tolist() == [127, 0, 2]
    assert rows.rest is not None and rows.rest[0, :3].tolist() == [0, 127, -128]


def test_rows_do_not_depend_on_their_neighbours() -> None:
    weight = quantize_to_8_bits(np.random.default_rng(11).standard_normal((17, 100)).astype(np.float32))
    x = np.random.default_rng(12).standard_normal((9, 100)).astype(np.float32)
    together = matmul_quantized(quantize_rows(x, DType.Q8), weight, 1)
    for t in range(9):
        assert np.array_equal(matmul_quantized(quantize_rows(x[t : t + 1], DType.Q8), weight, 1)[0], together[t])


def test_a_row_with_an_infinity_gives_nan_and_spares_the_others() -> None:
    x = np.ones((2, 32), np.float32)
    x[0, 3] = np.inf
    for terms, dtype in enumerate((DType.Q8, DType.Q16), start=1):
        out = matmul_quantized(quantize_rows(x, dtype), quantize_to_8_bits(np.ones((4, 32), np.float32)), terms)
        assert np.isnan(out[0]).all() and np.isfinite(out[1]).all()
