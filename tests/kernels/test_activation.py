"""Activations against f64: a few units in the last place from tiny inputs to both tails, gated and quantised."""

from __future__ import annotations

import numpy as np
import pytest
from tests.kernels.harness import EPS, Case, Floats, assert_same_codes, identity, normal, plain_step, rows_of

from lepton_ai.backends.cpu.device import CpuDevice
from lepton_ai.config import Policy
from lepton_ai.graph import ops
from lepton_ai.graph.attrs import Activation
from lepton_ai.graph.tensor import Weight, symbol
from lepton_ai.graph.trace import Trace

SIZES = (1, 3, 4, 15, 16, 17, 33, 64, 100)
ROWS = 9
# What each may be off, in units in the last place of the result.
ULPS = {
    Activation.SILU: 4.0,
    Activation.GELU: 6.0,
    Activation.GELU_TANH: 6.0,
    Activation.RELU: 0.0,
    Activation.TANH: 3.0,
}


def graph_of(kind: Activation, size: int) -> Case:
    """The op alone."""
    trace = Trace()
    return Case(trace.finish([ops.activate(rows_of(trace, "x", size), kind=kind, name="y")]))


def inputs() -> Floats:
    """Every size that matters: logarithmic from 1e-30 on, and evenly spaced through the range where things happen."""
    wide = np.concatenate([np.logspace(-30, 4, 16000), np.linspace(0, 16, 24000)])
    return np.concatenate([wide, -wide]).astype(np.float32).reshape(160, 500)


@pytest.mark.parametrize("kind", list(Activation))
def test_accuracy_over_the_whole_range(single: CpuDevice, kind: Activation) -> None:
    steps = [plain_step({"x": inputs()})]
    case = graph_of(kind, 500)
    got, want = (o["y"].astype(np.float64) for (o,) in (case.on_cpu(single, steps), case.on_reference(steps)))
    # GELU_TANH rounds its exponent u and both factors in it, each half an ulp, which the tail shows |u| times.
    x = np.abs(inputs().astype(np.float64))
    exponent = np.minimum(1.6 * (x + 0.0448 * x**3), 88) if kind is Activation.GELU_TANH else 0.0
    lost = 0.0 if kind is Activation.RELU else 2.0**-125 * np.maximum(x, 1e-3)
    ulps = np.maximum(np.abs(got - want) - lost, 0) / np.maximum(np.abs(want) * EPS / 2, 1e-300)
    worst = (ulps - 4 * exponent).max()
    assert worst <= 2 * ULPS[kind], f"{worst / 2:.2f} ulps"


@pytest.mark.parametrize("kind", list(Activation))
@pytest.mark.parametrize("size", SIZES)
def test_gated(device: CpuDevice, size: int, kind: Activation) -> None:
    trace = Trace()
    y = ops.gated(rows_of(trace, "gate", size), rows_of(trace, "up", size), kind=kind, name="y")
    gate = normal((ROWS, size), 1) * np.array([1e-6, 0.1, 1, 3, 10, 30, 80, 1000, 0], np.float32)[:, None]
    case, steps = Case(trace.finish([y])), [plain_step({"gate": gate, "up": normal((ROWS, size), 2)})]
    (got,), (want,) = case.on_cpu(device, steps), case.on_reference(steps)
    # Below 1e-33 gelu_tanh and silu give what their clamped exponent leaves.
    rtol = 200 * EPS if kind is Activation.GELU_TANH else 8 * EPS
    np.testing.assert_allclose(got["y"], want["y"], rtol=rtol, atol=1e-33)


@pytest.mark.parametrize("kind", list(Activation))
def test_what_is_not_finite(single: CpuDevice, kind: Activation) -> None:
    x = np.array([[np.nan, np.inf, -np.inf, 0.0, -0.0, 3e38, -3e38]], np.float32)
    (got,) = graph_of(kind, 7).on_cpu(single, [plain_step({"x": x})])
    y = got["y"][0]
    assert np.isnan(y[0]) and not y[3:5].any()
    assert (y[1], y[5]) == ((1, 1) if kind is Activation.TANH else (np.inf, x[0, 5]))
    if kind in (Activation.GELU, Activation.GELU_TANH, Activation.RELU):
        assert y[2] == y[6] == 0


@pytest.mark.parametrize("num_rows", ["T", "R"])
@pytest.mark.parametrize("kind", list(Activation))
@pytest.mark.parametrize("size", [32, 96, 288])
def test_into_8_bits(device: CpuDevice, size: int, kind: Activation, num_rows: str) -> None:
    trace = Trace()
    y = ops.activate(rows_of(trace, "x", size, num_rows), kind=kind, name="act")
    out = ops.linear(y, Weight("identity", (size, size)), name="out")
    case = Case(trace.finish([out]), (identity(size),), Policy.AUTO)
    assert out.shape[0] == symbol(num_rows)
    steps = [plain_step({"x": 2 * normal((ROWS, size), 2)}, logit_rows=range(ROWS) if num_rows == "R" else None)]
    (got,), (want,) = case.on_cpu(device, steps), case.on_reference(steps)
    assert_same_codes(got["out"], want["out"])


def test_a_value_has_the_same_bits_wherever_it_stands(device: CpuDevice) -> None:
    for kind in Activation:
        x = normal((150, 33), 1)
        together, alone = graph_of(kind, 33).on_cpu(device, [plain_step({"x": x}), plain_step({"x": x[141:142]})])
        (shifted,) = graph_of(kind, 32).on_cpu(device, [plain_step({"x": x[:, 1:]})])
        assert np.array_equal(together["y"][141:142], alone["y"])
        assert np.array_equal(together["y"][:, 1:], shifted["y"])
