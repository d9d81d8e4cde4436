from __future__ import annotations

import numpy as np
import pytest
from tests.models.tiny import random_tensor
from tests.weights.blocks import ZERO_POINT_TYPES

from lepton_ai.backends.reference.quantized import matmul_quantized, quantize_rows
from lepton_ai.backends.reference.weights import (
    DenseWeight,
    GroupedWeight,
    hold,
    narrow,
    quantize_groups,
    quantize_to_8_bits,
    rotate,
)
from lepton_ai.graph.tensor import DType
from lepton_ai.weights.formats import IQ4_VALUES, WeightType, dequantize

NARROW = [t for t in WeightType if t.bits <= 8]
SIXTEENS = (WeightType.Q2_K, WeightType.Q3_K, WeightType.Q6_K)
WITH_MINIMA = (WeightType.Q4_1, WeightType.Q5_1, WeightType.Q2_K, WeightType.Q4_K, WeightType.Q5_K)
CODEBOOK = (WeightType.IQ4_NL, WeightType.IQ4_XS)


@pytest.mark.parametrize("weight_type", list(WeightType))
def test_unpacked_values_are_those_of_the_format(weight_type: WeightType) -> None:
    tensor = random_tensor("w", (6, 512), weight_type, seed=1)
    held = hold(tensor)
    expected = dequantize(tensor.data, weight_type, tensor.shape)
    assert np.array_equal(held.values(), expected)
    rows = np.array([3, 0, 3], np.int32)
    assert np.array_equal(held.rows(rows), expected[rows])


@pytest.mark.parametrize("weight_type", NARROW)
def test_codes_fit_the_width_of_the_type(weight_type: WeightType) -> None:
    held = hold(random_tensor("w", (4, 512), weight_type, seed=2))
    assert isinstance(held, GroupedWeight)
    low = 0 if weight_type in WITH_MINIMA else -(2 ** (weight_type.bits - 1))
    codes = IQ4_VALUES if weight_type in CODEBOOK else range(low, low + 2**weight_type.bits)
    assert (held.codes.min(), held.codes.max()) == (min(codes), max(codes))
    assert set(held.codes.flat) <= set(codes)
    assert held.group == (16 if weight_type in SIXTEENS else 32)
    assert (held.minima is not None) == (weight_type in (*WITH_MINIMA, *ZERO_POINT_TYPES))


def test_wide_weights_are_narrowed_on_demand_alone() -> None:
    tensor = random_tensor("w", (3, 64), WeightType.F16, seed=5)
    assert isinstance(hold(tensor), DenseWeight)
    narrowed = hold(tensor, DType.Q8)
    assert isinstance(narrowed, GroupedWeight)
    assert (narrowed.bits, narrowed.group, narrowed.minima) == (8, 32, None)
    already = random_tensor("w", (3, 64), WeightType.Q4_0, seed=5)
    unpacked, asked = hold(already), hold(already, DType.Q8)
    assert isinstance(asked, GroupedWeight) and asked.bits == 4
    assert np.array_equal(unpacked.values(), asked.values())


def test_rotated_rows_have_the_products_they_had() -> None:
    rng = np.random.default_rng(8)
    x, y = (rng.standard_normal((3, 256)).astype(np.float32) for _ in range(2))
    np.testing.assert_allclose(rotate(x) @ rotate(y).T / 128, x @ y.T, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(rotate(rotate(x)) / 128, x, rtol=1e-5, atol=1e-6)


def test_rotation_is_the_walsh_hadamard_transform() -> None:
    index = np.arange(128)
    signs = np.vectorize(lambda bits: (-1.0) ** int(bits).bit_count())(index[:, None] & index)
    x = np.random.default_rng(9).integers(-100, 100, (2, 128)).astype(np.float32)
    assert np.array_equal(rotate(x), x @ signs)


def test_a_channel_that_stands_out_is_spread_over_its_block() -> None:
    rng = np.random.default_rng(10)
    values, x = (rng.standard_normal((n, 256)).astype(np.float32) for n in (40, 30))
    x[:, 7] *= 60
    exact = x.astype(np.float64) @ values.astype(np.float64).T

    def error(dtype: DType) -> float:
        product = matmul_quantized(quantize_rows(x, dtype), narrow(values, dtype), 1)
        return float(np.sqrt(np.mean((product - exact) ** 2)))

    assert error(DType.R8) < error(DType.Q8) / 1.5


def test_rotated_weights_have_a_scale_for_each_128() -> None:
    values = np.random.default_rng(11).standard_normal((2, 384)).astype(np.float32)
    held = narrow(values, DType.R8)
    assert (held.codes.shape, held.scales.shape, held.group) == ((2, 384), (2, 3), 128)
    error = np.abs(rotate(held.values()) / np.sqrt(128) - values).max()
    assert 0 < error < 0.1


def test_columns_that_groups_do_not_divide_are_padded() -> None:
    values = np.random.default_rng(6).standard_normal((2, 40)).astype(np.float32)
    held = quantize_to_8_bits(values)
    assert (held.codes.shape, held.scales.shape, held.values().shape) == ((2, 64), (2, 2), (2, 40))
    assert not held.codes[:, 40:].any()
    assert np.abs(held.values() - values).max() <= np.abs(values).max() / 254 * 1.001


def test_the_8_bit_rule() -> None:
    group = np.zeros(32, np.float32)
    group[:4] = [-2, 1, 0.5 * 2 / 127, 1.5 * 2 / 127]
    codes, scales = quantize_groups(group[None])
    assert codes[0, :5].tolist() == [-127, 64, 0, 2, 0], "halves go to even codes"
    assert scales.tolist() == [np.float32(2) / np.float32(127)]


@pytest.mark.parametrize(
    ("value", "scale"), [(0.0, 0.0), (2.0**-101, 0.0), (np.inf, np.nan), (-np.inf, np.nan), (np.nan, np.nan)]
)
def test_groups_without_a_usable_scale_have_zero_codes(value: float, scale: float) -> None:
    group = np.full((1, 32), value, np.float32)
    codes, scales = quantize_groups(group)
    assert not codes.any()
    np.testing.assert_array_equal(scales, np.array([scale], np.float32))
