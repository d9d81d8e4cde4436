"""Formulas of the oracle against the same written in another way."""

from __future__ import annotations

import numpy as np
from tests.kernels.harness import Case, normal, plain_step, rows_of
from tests.models.tiny import stored

from lepton_ai.graph import ops
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
