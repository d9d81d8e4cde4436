from __future__ import annotations

import numpy as np
import pytest
from tests.models.tiny import random_tensor
from tests.weights.blocks import ZERO_POINT_TYPES

from lepton_ai.backends.reference.weights import DenseWeight, GroupedWeight, hold, quantize_groups, quantize_to_8_bits
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
    narrowed = hold(tensor, quantize=True)
    assert isinstance(narrowed, GroupedWeight)
    assert (narrowed.bits, narrowed.group, narrowed.minima) == (8, 32, None)
    already = random_tensor("w", (3, 64), WeightType.Q4_0, seed=5)
    unpacked, asked = hold(already), hold(already, quantize=True)
    assert isinstance(asked, GroupedWeight) and asked.bits == 4
    assert np.array_equal(unpacked.values(), asked.values())


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
