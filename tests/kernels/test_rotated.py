"""Rotated rows of 8 bits: every op that makes them, read through the product with a rotated identity.

Those of a decoder have a scale for each block of 128, those of an encoder one for each row, but where an activation
makes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pytest
from tests.kernels.harness import Case, Floats, Outputs, cached_step, copied, normal, plain_step, rows_of
from tests.models.tiny import stored

from lepton_ai.backends.base import BLOCK_SIZE, StepInputs
from lepton_ai.backends.cpu.backend import CpuBackend
from lepton_ai.backends.cpu.device import CpuDevice
from lepton_ai.backends.reference.weights import rotate
from lepton_ai.config import Policy
from lepton_ai.graph import ops
from lepton_ai.graph.attrs import Activation, KVSpec
from lepton_ai.graph.passes.precision import apply_precision
from lepton_ai.graph.tensor import DType, Weight
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


def attended(trace: Trace) -> tuple[Value, tuple[StoredTensor, ...]]:
    return see_all(rows_of(trace, "x", SIZE), num_heads=6, name="y"), ()


def see_all(x: Value, *, num_heads: int, name: str) -> Value:
    """An attention as encoders have it."""
    size = x.shape[-1]
    assert isinstance(size, int)
    kv = KVSpec(num_heads, size // num_heads)
    return ops.attention(x, x, x, num_heads=num_heads, kv=kv, layer=0, scale=0.1, is_causal=False, name=name)


def case_of(maker: Maker, *, is_encoder: bool = False) -> Case:
    trace = Trace()
    y, tensors = maker(trace)
    identity = stored("identity", np.eye(SIZE, dtype=np.float32))
    outputs = [ops.linear(y, Weight("identity", (SIZE, SIZE)), name="out")]
    if is_encoder and maker is not attended:
        outputs.append(see_all(rows_of(trace, "seen", 16), num_heads=1, name="attn"))
    return Case(trace.finish(outputs), (*tensors, identity), Policy.FAST)


def encoder_step(x: Floats) -> StepInputs:
    """One sequence of rows ``x``, all of which see each other."""
    blocks = range(-(-len(x) // BLOCK_SIZE))
    return cached_step({"x": x, "seen": np.zeros((len(x), 16), np.float32)}, [(0, len(x), blocks)])


def outputs_of(case: Case, device: CpuDevice | None, inputs: Iterable[Floats], *, is_encoder: bool) -> list[Outputs]:
    """Of each input on the device, or on the reference."""
    steps = [encoder_step(x) if is_encoder else plain_step({"x": x}) for x in inputs]
    num_blocks = 8 if is_encoder else 0
    if device is None:
        return case.on_reference(steps, num_blocks=num_blocks)
    return case.on_cpu(device, steps, num_blocks=num_blocks)


def input_rows() -> Floats:
    x = normal((ROWS[-1], SIZE), 3)
    x[:, 17] *= 20
    return x


@pytest.mark.parametrize("is_encoder", [False, True])
@pytest.mark.parametrize("name", MAKERS)
def test_every_maker_of_rotated_rows(device: CpuDevice, name: str, is_encoder: bool) -> None:
    # A value near the middle of two codes may fall to either, and a step is 1 / 127 of the largest rotated value.
    case, x = case_of(MAKERS[name], is_encoder=is_encoder), input_rows()
    (want,) = outputs_of(case, None, [x], is_encoder=is_encoder)
    got = outputs_of(case, device, [x[:n] for n in ROWS], is_encoder=is_encoder)
    for rows, values in zip(ROWS, got, strict=True):
        assert np.array_equal(values["out"], got[-1]["out"][:rows]), f"{rows} rows differ from the same among more"
    group = SIZE if is_encoder else 128
    lengths = np.linalg.norm(want["out"].reshape(ROWS[-1], -1, group), axis=2, keepdims=True)
    errors = np.abs(got[-1]["out"] - want["out"]).reshape(ROWS[-1], -1, group) / lengths
    assert errors.max() <= 4e-3
    assert (errors > 1e-4).any(axis=2).mean() < (0.5 if "gelu" in name else 0.1)


def test_rows_of_an_attention_are_rotated_in_an_encoder(device: CpuDevice) -> None:
    case, x = case_of(attended, is_encoder=True), input_rows()
    lowered = apply_precision(case.graph, {t.name: t.type for t in case.tensors}, case.policy)
    assert [n.inputs[0].dtype for n in lowered.nodes if n.op == "linear"] == [DType.R8_ROW]
    (got,) = outputs_of(case, device, [x], is_encoder=True)
    (want,) = outputs_of(case, None, [x], is_encoder=True)
    lengths = np.linalg.norm(want["out"], axis=1, keepdims=True)
    assert (np.abs(got["out"] - want["out"]) / lengths).max() <= 4e-3


@pytest.mark.parametrize("is_encoder", [False, True])
def test_rows_that_are_quantised_as_they_are_have_the_same_bits(device: CpuDevice, is_encoder: bool) -> None:
    case, x = case_of(quantised, is_encoder=is_encoder), input_rows()
    (got,) = outputs_of(case, device, [x], is_encoder=is_encoder)
    (want,) = outputs_of(case, None, [x], is_encoder=is_encoder)
    np.testing.assert_allclose(got["out"], want["out"], rtol=0, atol=1e-5 if device.isa == "generic" else 0)
    assert np.abs(got["out"] - x).max() < 0.06 * np.abs(x).max()


@pytest.mark.parametrize("is_encoder", [False, True])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
def test_a_row_that_is_not_finite_spares_the_others(device: CpuDevice, bad: float, is_encoder: bool) -> None:
    # 128 times 3e38 is past the range: rotated, such a row is not finite either.
    case, x = case_of(quantised, is_encoder=is_encoder), normal((9, SIZE), 4)
    x[5] = 0
    broken = x.copy()
    broken[2] = bad
    clean, got = (out["out"] for out in outputs_of(case, device, (x, broken), is_encoder=is_encoder))
    assert np.isnan(got[2]).all()
    others = np.arange(9) != 2
    assert np.array_equal(got[others], clean[others]) and not clean[5].any()


@pytest.mark.parametrize("is_encoder", [False, True])
@pytest.mark.parametrize("exponent", [-130, -112, -99, -60, 60, 100])
def test_huge_and_tiny_rows(device: CpuDevice, exponent: int, is_encoder: bool) -> None:
    case, x = case_of(quantised, is_encoder=is_encoder), np.ldexp(normal((3, SIZE), 6), exponent)
    (got,) = outputs_of(case, device, [x], is_encoder=is_encoder)
    (want,) = outputs_of(case, None, [x], is_encoder=is_encoder)
    largest = np.abs(want["out"]).max()
    np.testing.assert_allclose(got["out"], want["out"], rtol=0, atol=largest * 1e-6)
    assert got["out"].any() == (exponent >= -99)


@pytest.mark.parametrize("is_encoder", [False, True])
def test_no_sum_saturates(device: CpuDevice, is_encoder: bool) -> None:
    # Rows and weights whose rotated codes are all as large as they come, of both signs.
    size = 4096
    signs = np.where(normal((4, size), 7) > 0, np.float32(1), np.float32(-1))
    signs[0], signs[1] = 1, -1
    rows = rotate(signs, size if is_encoder else 128)
    trace = Trace()
    outputs = [ops.linear(rows_of(trace, "x", size), Weight("w", (4, size)), name="out")]
    if is_encoder:
        outputs.append(see_all(rows_of(trace, "seen", 16), num_heads=1, name="attn"))
    case = Case(trace.finish(outputs), (stored("w", rows),), Policy.FAST)
    (got,) = outputs_of(case, device, [rows], is_encoder=is_encoder)
    np.testing.assert_allclose(got["out"], rows @ rows.T, rtol=1e-5, atol=size / 512)


@pytest.mark.parametrize("is_encoder", [False, True])
def test_weights_may_be_set(device: CpuDevice, is_encoder: bool) -> None:
    case, x = case_of(quantised, is_encoder=is_encoder), normal((3, SIZE), 8)
    backend = CpuBackend(device)
    executable = case.compile_on(backend)
    executable.set_weight("identity", np.float32(2) * np.eye(SIZE, dtype=np.float32))
    step = encoder_step(x) if is_encoder else plain_step({"x": x})
    doubled = copied(executable.run(step, case.allocate_kv(backend, 8)).result())["out"]
    (plain,) = outputs_of(case, device, [x], is_encoder=is_encoder)
    np.testing.assert_allclose(doubled, 2 * plain["out"], rtol=1e-6)
