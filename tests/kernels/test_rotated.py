"""Rotated rows of 8 bits: every op that makes them, read through the product with a rotated identity."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from tests.kernels.harness import Case, Floats, normal, plain_step, rows_of
from tests.models.tiny import stored

from lepton_ai.backends.cpu.backend import CpuBackend
from lepton_ai.backends.cpu.device import CpuDevice
from lepton_ai.config import Policy
from lepton_ai.graph import ops
from lepton_ai.graph.attrs import Activation
from lepton_ai.graph.tensor import Weight
from lepton_ai.graph.trace import Trace, Value
from lepton_ai.weights.store import StoredTensor

SIZE = 384
ROWS = (1, 4, 5, 7, 13, 16, 40, 121)

Maker = Callable[[Trace], tuple[Value, tuple[StoredTensor, ...]]]


def quantised(trace: Trace) -> tuple[Value, tuple[StoredTensor, ...]]:
    return rows_of(trace, "x", SIZE), ()


def normed(trace: Trace) -> tuple[Value, tuple[StoredTensor, ...]]:
    x, weight = rows_of(trace, "x", SIZE), stored("norm", normal((SIZE,), 1))
    return ops.rms_norm(x, Weight("norm", (SIZE,)), eps=1e-5, name="y"), (weight,)


def activated(kind: Activation) -> Maker:
    def make(trace: Trace) -> tuple[Value, tuple[StoredTensor, ...]]:
        return ops.activate(rows_of(trace, "x", SIZE), kind=kind, name="y"), ()

    return make


def product(kind: Activation, *, is_gated: bool) -> Maker:
    """An activated product of 128 inputs, whose own input is rotated too."""

    def make(trace: Trace) -> tuple[Value, tuple[StoredTensor, ...]]:
        inner = rows_of(trace, "x", SIZE)
        names = ("gate", "up") if is_gated else ("gate",)
        bias = stored("bias", normal((SIZE,), 5))
        tensors = tuple(stored(name, normal((SIZE, SIZE), i) / np.float32(20)) for i, name in enumerate(names))
        parts = [ops.linear(inner, Weight(t.name, t.shape), name=t.name, bias=Weight("bias", (SIZE,))) for t in tensors]
        y = ops.gated(*parts, kind=kind, name="y") if is_gated else ops.activate(parts[0], kind=kind, name="y")
        return y, (*tensors, bias)

    return make


MAKERS = {
    "quantize": quantised,
    "norm": normed,
    **{f"activate-{kind.value}": activated(kind) for kind in Activation},
    **{f"product-{kind.value}": product(kind, is_gated=False) for kind in Activation},
    **{f"gated-{kind.value}": product(kind, is_gated=True) for kind in (Activation.SILU, Activation.GELU)},
}


def case_of(maker: Maker) -> Case:
    trace = Trace()
    y, tensors = maker(trace)
    identity = stored("identity", np.eye(SIZE, dtype=np.float32))
    out = ops.linear(y, Weight("identity", (SIZE, SIZE)), name="out")
    return Case(trace.finish([out]), (*tensors, identity), Policy.FAST)


def input_rows() -> Floats:
    x = normal((ROWS[-1], SIZE), 3)
    x[:, 17] *= 20
    return x


@pytest.mark.parametrize("name", MAKERS)
def test_every_maker_of_rotated_rows(device: CpuDevice, name: str) -> None:
    # A value near the middle of two codes may fall to either, and a step is 1 / 127 of the largest rotated value.
    case, x = case_of(MAKERS[name]), input_rows()
    (want,) = case.on_reference([plain_step({"x": x})])
    got = case.on_cpu(device, [plain_step({"x": x[:n]}) for n in ROWS])
    for rows, values in zip(ROWS, got, strict=True):
        assert np.array_equal(values["out"], got[-1]["out"][:rows]), f"{rows} rows differ from the same among more"
    lengths = np.linalg.norm(want["out"].reshape(ROWS[-1], -1, 128), axis=2, keepdims=True)
    errors = np.abs(got[-1]["out"] - want["out"]).reshape(ROWS[-1], -1, 128) / lengths
    assert errors.max() <= 4e-3
    assert (errors > 1e-4).any(axis=2).mean() < (0.5 if "gelu" in name else 0.1)


def test_rows_that_are_quantised_as_they_are_have_the_same_bits(device: CpuDevice) -> None:
    case, steps = case_of(quantised), [plain_step({"x": input_rows()})]
    (got,), (want,) = case.on_cpu(device, steps), case.on_reference(steps)
    np.testing.assert_allclose(got["out"], want["out"], rtol=0, atol=1e-5 if device.isa == "generic" else 0)
    error = np.abs(got["out"] - input_rows()).reshape(ROWS[-1], -1, 128)
    assert error.max() < 0.06 * np.abs(input_rows()).max()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
def test_a_row_that_is_not_finite_spares_the_others(device: CpuDevice, bad: float) -> None:
    # 128 times 3e38 is past the range: rotated, such a row is not finite either.
    case, x = case_of(quantised), normal((9, SIZE), 4)
    x[5] = 0
    broken = x.copy()
    broken[2] = bad
    clean, got = (out["out"] for out in case.on_cpu(device, [plain_step({"x": rows}) for rows in (x, broken)]))
    assert np.isnan(got[2]).all()
    others = np.arange(9) != 2
    assert np.array_equal(got[others], clean[others]) and not clean[5].any()


@pytest.mark.parametrize("exponent", [-130, -112, -99, -60, 60, 100])
def test_huge_and_tiny_rows(device: CpuDevice, exponent: int) -> None:
    case = case_of(quantised)
    steps = [plain_step({"x": np.ldexp(normal((3, SIZE), 6), exponent)})]
    (got,), (want,) = case.on_cpu(device, steps), case.on_reference(steps)
    largest = np.abs(want["out"]).max()
    np.testing.assert_allclose(got["out"], want["out"], rtol=0, atol=largest * 1e-6)
    assert got["out"].any() == (exponent >= -99)


def test_no_sum_saturates(device: CpuDevice) -> None:
    # Rows and weights whose rotated codes are all as large as they come, of both signs.
    signs = np.where(normal((4, 256), 7) > 0, np.float32(1), np.float32(-1))
    signs[0], signs[1] = 1, -1
    index = np.arange(128)
    hadamard = np.vectorize(lambda bits: (-1.0) ** int(bits).bit_count())(index[:, None] & index).astype(np.float32)
    rows = np.concatenate([part @ hadamard for part in (signs[:, :128], signs[:, 128:])], axis=1)
    trace = Trace()
    y = ops.linear(rows_of(trace, "x", 256), Weight("w", (4, 256)), name="out")
    case = Case(trace.finish([y]), (stored("w", rows),), Policy.FAST)
    (got,) = case.on_cpu(device, [plain_step({"x": rows})])
    np.testing.assert_allclose(got["out"], rows @ rows.T, rtol=1e-5, atol=0.5)


def test_weights_may_be_set(device: CpuDevice) -> None:
    case = case_of(quantised)
    executable = CpuBackend(device).compile(case.graph, case.store(), case.limits, policy=case.policy)
    executable.set_weight("identity", np.float32(2) * np.eye(SIZE, dtype=np.float32))
    x = normal((3, SIZE), 8)
    doubled = executable.run(plain_step({"x": x}), CpuBackend(device).allocate_kv([], [])).result().tensors["out"]
    (plain,) = case.on_cpu(device, [plain_step({"x": x})])
    np.testing.assert_allclose(doubled, 2 * plain["out"], rtol=1e-6)
