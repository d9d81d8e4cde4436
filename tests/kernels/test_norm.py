"""Norms against the reference, at sizes that fill no vector, alone and after a residual sum, in f32 and in 8 bits."""

from __future__ import annotations

import numpy as np
import pytest
from tests.kernels.harness import EPS, Case, assert_same_codes, identity, normal, plain_step, rows_of
from tests.models.tiny import stored

from lepton_ai.backends.cpu.device import CpuDevice
from lepton_ai.config import Policy
from lepton_ai.graph import ops
from lepton_ai.graph.attrs import NormKind
from lepton_ai.graph.tensor import Weight
from lepton_ai.graph.trace import Trace, Value
from lepton_ai.weights.store import StoredTensor

SIZES = (1, 3, 4, 15, 16, 17, 33, 64, 100, 576)
ROWS = 9
KINDS = list(NormKind)


def norm(x: Value, size: int, kind: NormKind) -> Value:
    """The norm ``y`` of x with the weights ``w`` and ``b``."""
    if kind is NormKind.RMS:
        return ops.rms_norm(x, Weight("w", (size,)), eps=1e-5, name="y")
    return ops.layer_norm(x, Weight("w", (size,)), Weight("b", (size,)), eps=1e-5, name="y")


def parameters(size: int) -> tuple[StoredTensor, ...]:
    """Random weight and bias."""
    return stored("w", normal((size,), 1)), stored("b", normal((size,), 7))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
def test_norm(device: CpuDevice, size: int, kind: NormKind) -> None:
    trace = Trace()
    case = Case(trace.finish([norm(rows_of(trace, "x", size), size, kind)]), parameters(size))
    x = normal((ROWS, size), 2)
    x[3], x[4], x[5] = 0, x[4] * 1e-4, x[5] * 1e12
    steps = [plain_step({"x": x})]
    (got,), (want,) = case.on_cpu(device, steps), case.on_reference(steps)
    # What the bias takes away, and the mean of two or three values that are nearly equal, is not relative to y.
    atol = 0.0 if kind is NormKind.RMS else 32 * EPS
    np.testing.assert_allclose(got["y"], want["y"], rtol=8 * EPS, atol=atol)


@pytest.mark.parametrize("offset", [1e2, -1e4, 1e6])
def test_layer_norm_of_rows_far_from_zero(device: CpuDevice, offset: float) -> None:
    trace, size = Trace(), 768
    case = Case(trace.finish([norm(rows_of(trace, "x", size), size, NormKind.LAYER)]), parameters(size))
    steps = [plain_step({"x": normal((ROWS, size), 2) + np.float32(offset)})]
    (got,), (want,) = case.on_cpu(device, steps), case.on_reference(steps)
    np.testing.assert_allclose(got["y"], want["y"], rtol=8 * EPS, atol=32 * EPS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
def test_add_norm(device: CpuDevice, size: int, kind: NormKind) -> None:
    trace = Trace()
    total = ops.add(rows_of(trace, "a", size), rows_of(trace, "b", size), name="sum")
    case = Case(trace.finish([total, norm(total, size, kind)]), parameters(size))
    steps = [plain_step({"a": normal((ROWS, size), 2), "b": normal((ROWS, size), 3)})]
    (got,), (want,) = case.on_cpu(device, steps), case.on_reference(steps)
    assert np.array_equal(got["sum"], want["sum"])
    atol = 0.0 if kind is NormKind.RMS else 32 * EPS
    np.testing.assert_allclose(got["y"], want["y"], rtol=8 * EPS, atol=atol)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("has_residual", [False, True])
@pytest.mark.parametrize("size", [32, 96, 288])
def test_norm_into_8_bits(device: CpuDevice, size: int, has_residual: bool, kind: NormKind) -> None:
    trace = Trace()
    x = rows_of(trace, "x", size)
    total = ops.add(x, rows_of(trace, "r", size), name="sum") if has_residual else x
    out = ops.linear(norm(total, size, kind), Weight("identity", (size, size)), name="out")
    case = Case(trace.finish([out]), (*parameters(size), identity(size)), Policy.AUTO)
    tensors = {"x": normal((ROWS, size), 2)} | ({"r": normal((ROWS, size), 3)} if has_residual else {})
    steps = [plain_step(tensors)]
    (got,), (want,) = case.on_cpu(device, steps), case.on_reference(steps)
    assert_same_codes(got["out"], want["out"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_among_others_has_the_bits_it_has_alone(device: CpuDevice, kind: NormKind) -> None:
    trace, size, x = Trace(), 100, normal((150, 100), 2)
    case = Case(trace.finish([norm(rows_of(trace, "x", size), size, kind)]), parameters(size))
    together, alone = case.on_cpu(device, [plain_step({"x": x}), plain_step({"x": x[141:142]})])
    assert np.array_equal(together["y"][141:142], alone["y"])


@pytest.mark.parametrize("offset", [0.0, 1.0])
@pytest.mark.parametrize(("num_groups", "size"), [(1, 48), (3, 1), (5, 15), (9, 64), (2, 100)])
def test_groups_of_a_row(device: CpuDevice, num_groups: int, size: int, offset: float) -> None:
    trace, x, width = Trace(), normal((ROWS, num_groups * size), 2), num_groups * size
    weight = Weight("w", (size,))
    y = ops.rms_norm(
        rows_of(trace, "x", width), weight, eps=1e-6, name="y", num_groups=num_groups, weight_offset=offset
    )
    case = Case(trace.finish([y]), parameters(size)[:1])
    steps = [plain_step({"x": x})]
    (got,), (want,) = case.on_cpu(device, steps), case.on_reference(steps)
    np.testing.assert_allclose(got["y"], want["y"], rtol=8 * EPS)
    # Each group has the bits that it has as a row of its own.
    apart = Trace()
    alone = ops.rms_norm(rows_of(apart, "x", size), weight, eps=1e-6, name="y", weight_offset=offset)
    (rows,) = Case(apart.finish([alone]), case.tensors).on_cpu(device, [plain_step({"x": x.reshape(-1, size)})])
    assert np.array_equal(got["y"].reshape(-1, size), rows["y"])


def test_groups_after_a_sum_into_8_bits(device: CpuDevice) -> None:
    trace, size = Trace(), 48
    total = ops.add(rows_of(trace, "x", 2 * size), rows_of(trace, "r", 2 * size), name="sum")
    y = ops.rms_norm(total, Weight("w", (size,)), eps=1e-6, name="y", num_groups=2, weight_offset=1.0)
    out = ops.linear(y, Weight("identity", (2 * size, 2 * size)), name="out")
    case = Case(trace.finish([out]), (parameters(size)[0], identity(2 * size)), Policy.AUTO)
    steps = [plain_step({"x": normal((ROWS, 2 * size), 2), "r": normal((ROWS, 2 * size), 3)})]
    (got,), (want,) = case.on_cpu(device, steps), case.on_reference(steps)
    assert_same_codes(got["out"], want["out"])
