"""Formulas of the oracle against the same written in another way."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tests.kernels.harness import Case, cached_step, normal, plain_step, rows_of
from tests.models.tiny import stored

from lepton_ai.backends.reference.activations import activated
from lepton_ai.graph import ops
from lepton_ai.graph.attrs import Activation, PoolMode
from lepton_ai.graph.tensor import Weight
from lepton_ai.graph.trace import Trace


def test_layer_norm_has_the_moments_of_its_parameters() -> None:
    trace, size = Trace(), 64
    y = ops.layer_norm(rows_of(trace, "x", size), Weight("w", (size,)), Weight("b", (size,)), eps=1e-9, name="y")
    constant = [np.full(size, value, np.float32) for value in (3.0, 5.0)]
    case = Case(trace.finish([y]), (stored("w", constant[0]), stored("b", constant[1])))
    (got,) = case.on_reference([plain_step({"x": 7 * normal((20, size), 1) + np.float32(11)})])
    np.testing.assert_allclose(got["y"].mean(axis=1), 5, rtol=1e-6)
    np.testing.assert_allclose(got["y"].std(axis=1), 3, rtol=1e-6)


def test_activations_meet_their_definitions() -> None:
    x = np.linspace(-9, 9, 181, dtype=np.float32)
    wide = x.astype(np.float64)
    angle = np.sqrt(2 / np.pi) * (wide + 0.044715 * wide**3)
    erf = np.array([math.erf(value / math.sqrt(2)) for value in wide])
    wanted = {
        Activation.SILU: wide * (1 + np.tanh(wide / 2)) / 2,
        Activation.GELU: wide * (1 + erf) / 2,
        Activation.GELU_TANH: wide * (1 + np.tanh(angle)) / 2,
        Activation.RELU: np.where(wide > 0, wide, 0),
        Activation.TANH: 2 / (1 + np.exp(-2 * wide)) - 1,
    }
    assert list(wanted) == list(Activation)
    for kind, values in wanted.items():
        np.testing.assert_allclose(activated(x, kind), values, rtol=1e-12, atol=1e-14, err_msg=kind.value)


def test_gelu_of_a_negative_value_keeps_its_digits() -> None:
    assert activated(np.array([-10], np.float32), Activation.GELU)[0] == pytest.approx(-7.6198530241604e-23, rel=1e-12)


def test_pooling_by_hand() -> None:
    x = np.array([[1, -2], [3, 5], [5, 0], [2, 2]], np.float32)
    step = cached_step({"x": x}, [(0, 3, [0]), (0, 1, [0])], num_groups=0)
    root = math.sqrt(3)
    wanted: dict[PoolMode, list[float]] = {
        PoolMode.CLS: [1, -2],
        PoolMode.MEAN: [3, 1],
        PoolMode.MAX: [5, 5],
        PoolMode.LAST: [5, 0],
        PoolMode.MEAN_SQRT_LEN: [9 / root, 3 / root],
    }
    assert list(wanted) == list(PoolMode)
    for mode, row in wanted.items():
        trace = Trace()
        case = Case(trace.finish([ops.pool(rows_of(trace, "x", 2), mode=mode, name="y")]))
        np.testing.assert_allclose(case.on_reference([step])[0]["y"], np.array([row, [2, 2]]), rtol=1e-7)


def test_l2_normalize_by_hand() -> None:
    trace = Trace()
    case = Case(trace.finish([ops.l2_normalize(rows_of(trace, "x", 2), name="y")]))
    (got,) = case.on_reference([plain_step({"x": np.array([[3, 4], [0, 0], [0, 1e-13]], np.float32)})])
    np.testing.assert_allclose(got["y"], np.array([[0.6, 0.8], [0, 0], [0, 0.1]]), rtol=1e-6)
