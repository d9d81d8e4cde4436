"""Formulas of the oracle against the same written in another way."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tests.kernels.harness import Case, normal, plain_step, rows_of
from tests.models.tiny import stored

from lepton_ai.backends.reference.activations import activated
from lepton_ai.graph import ops
from lepton_ai.graph.attrs import Activation
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
