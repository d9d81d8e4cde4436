"""One row for each sequence, and rows of length 1, against the reference."""

from __future__ import annotations

import numpy as np
import pytest
from tests.kernels.harness import EPS, Case, Floats, assert_within, cached_step, normal, plain_step, rows_of
from tests.models.tiny import stored

from lepton_ai.backends.base import StepInputs
from lepton_ai.backends.cpu.device import CpuDevice
from lepton_ai.graph import ops
from lepton_ai.graph.attrs import Activation, PoolMode
from lepton_ai.graph.tensor import Weight, symbol
from lepton_ai.graph.trace import Trace

SIZES = (1, 3, 16, 33, 64, 65, 384)
LENGTHS = (1, 70, 2, 5, 17)
MODES = list(PoolMode)


def pool_case(mode: PoolMode, size: int) -> Case:
    """The op alone."""
    trace = Trace()
    y = ops.pool(rows_of(trace, "x", size), mode=mode, name="y")
    assert y.shape == (symbol("S"), size)
    return Case(trace.finish([y]))


def sequences(x: Floats, lengths: tuple[int, ...]) -> StepInputs:
    """A step of several sequences, without a cache."""
    return cached_step({"x": x}, [(0, n, [0]) for n in lengths], num_groups=0)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", SIZES)
def test_pool(device: CpuDevice, size: int, mode: PoolMode) -> None:
    x, case = normal((sum(LENGTHS), size), 1), pool_case(mode, size)
    steps = [sequences(x, LENGTHS)]
    (got,), (want,) = case.on_cpu(device, steps), case.on_reference(steps)
    # A sum of n terms in order is off by at most n halves of an ulp of the sum of magnitudes.
    magnitudes = case.on_reference([sequences(np.abs(x), LENGTHS)])[0]["y"]
    is_sum = mode in (PoolMode.MEAN, PoolMode.MEAN_SQRT_LEN)
    assert_within(got["y"], want["y"], magnitudes, max(LENGTHS) / 2 if is_sum else 0.0)


@pytest.mark.parametrize("mode", MODES)
def test_a_sequence_has_the_bits_it_has_alone(device: CpuDevice, mode: PoolMode) -> None:
    x, case = normal((sum(LENGTHS), 100), 2), pool_case(mode, 100)
    together, alone = case.on_cpu(device, [sequences(x, LENGTHS), sequences(x[1:71], (70,))])
    assert np.array_equal(together["y"][1], alone["y"][0])


def test_the_largest_is_a_nan_if_there_is_one(device: CpuDevice) -> None:
    x = normal((12, 70), 3)
    x[4, 5], x[8, 6], x[11, 69], x[5, 7] = np.nan, np.nan, np.nan, np.inf
    case, steps = pool_case(PoolMode.MAX, 70), [sequences(x, (4, 8))]
    (got,), (want,) = case.on_cpu(device, steps), case.on_reference(steps)
    assert np.array_equal(got["y"], want["y"], equal_nan=True)
    assert np.isnan(got["y"][1, [5, 6, 69]]).all() and np.isfinite(got["y"][0]).all()


@pytest.mark.parametrize("size", SIZES)
def test_l2_normalize(device: CpuDevice, size: int) -> None:
    trace, x = Trace(), normal((9, size), 4)
    x[2], x[3], x[4], x[5] = 0, x[3] * 1e-13, x[4] * 1e12, x[5] * 1e-6
    case, steps = Case(trace.finish([ops.l2_normalize(rows_of(trace, "x", size), name="y")])), [plain_step({"x": x})]
    (got,), (want,) = case.on_cpu(device, steps), case.on_reference(steps)
    np.testing.assert_allclose(got["y"], want["y"], rtol=8 * EPS)
    assert not got["y"][2].any()


def test_ops_on_rows_of_sequences(device: CpuDevice) -> None:
    trace, size = Trace(), 48
    pooled = ops.pool(rows_of(trace, "x", size), mode=PoolMode.CLS, name="pooled")
    head = ops.linear(pooled, Weight("w", (size, size)), name="head", bias=Weight("b", (size,)))
    active = ops.activate(head, kind=Activation.TANH, name="active")
    normed = ops.layer_norm(active, Weight("n", (size,)), Weight("b", (size,)), eps=1e-5, name="normed")
    y = ops.l2_normalize(ops.add(normed, pooled, name="sum"), name="y")
    weights = (stored("w", normal((size, size), 5)), stored("b", normal((size,), 6)), stored("n", normal((size,), 7)))
    case, steps = Case(trace.finish([y]), weights), [sequences(normal((sum(LENGTHS), size), 8), LENGTHS)]
    (got,), (want,) = case.on_cpu(device, steps), case.on_reference(steps)
    assert got["y"].shape == (len(LENGTHS), size)
    np.testing.assert_allclose(got["y"], want["y"], rtol=0, atol=2e-5)
    np.testing.assert_allclose(np.linalg.norm(got["y"], axis=1), 1, rtol=4 * EPS)
