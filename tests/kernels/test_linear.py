"""Products, activated or not: every weight type, odd sizes, every row count that a kernel treats apart."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
from tests.kernels.harness import (
    QUANTISED,
    WIDE,
    Case,
    Floats,
    assert_same_codes,
    assert_within,
    cached_step,
    held,
    identity,
    magnitudes,
    normal,
    plain_step,
    rows_of,
    tolerated_ulps,
)
from tests.models.tiny import random_tensor, stored
from tests.weights.blocks import put_ones

from lepton_ai.backends.base import StepInputs
from lepton_ai.backends.cpu.device import CpuDevice
from lepton_ai.config import Policy
from lepton_ai.graph import ops
from lepton_ai.graph.attrs import Activation, KVSpec
from lepton_ai.graph.tensor import Weight
from lepton_ai.graph.trace import Trace
from lepton_ai.weights.formats import WeightType
from lepton_ai.weights.store import StoredTensor

ROWS = (1, 2, 3, 4, 5, 8, 9, 16, 17, 48, 127, 128, 129, 200)
OUTPUTS = (1, 15, 16, 50)
INNER = {32: (32, 64, 256, 288, 768), 128: (128, 256, 384, 768), 256: (256, 512, 768)}  # by the elements of a block
RAGGED = {1: 288, 32: 288, 128: 384, 256: 512}  # the last super-block of a panel is not full, where that can be
F32_ULPS = 12.0


def linear_case(
    tensors: Sequence[StoredTensor],
    policy: Policy,
    biases: Sequence[StoredTensor | None] = (),
    *,
    num_rows: str = "T",
) -> Case:
    """Products of one input with several matrices, which fusion makes the segments of one op.

    Rows of symbol ``R`` make it a head, whose quantised inputs have two terms.
    """
    trace = Trace()
    x = rows_of(trace, "x", tensors[0].shape[1], num_rows)
    outputs = []
    for index, tensor in enumerate(tensors):
        bias = biases[index] if biases else None
        outputs.append(
            ops.linear(
                x,
                Weight(tensor.name, tensor.shape),
                name=f"y{index}",
                bias=Weight(bias.name, bias.shape) if bias else None,
            )
        )
    return Case(trace.finish(outputs), (*tensors, *(b for b in biases if b)), policy)


def matrices(weight_type: WeightType, num_inputs: int) -> list[StoredTensor]:
    """One matrix of each output size."""
    return [random_tensor(f"w{n}", (n, num_inputs), weight_type, seed=n + num_inputs) for n in OUTPUTS]


@cache
def expected(weight_type: WeightType, num_inputs: int, policy: Policy, num_rows: str) -> tuple[Floats, Floats]:
    """The reference's outputs for 200 rows, side by side, and the sums of magnitudes they are made of."""
    x, tensors = normal((200, num_inputs), num_inputs), matrices(weight_type, num_inputs)
    (outputs,) = linear_case(tensors, policy, num_rows=num_rows).on_reference([step_of(x)])
    sizes = [np.abs(x) @ magnitudes(held(t, policy, is_head=num_rows == "R")).T for t in tensors]
    return np.concatenate([outputs[f"y{i}"] for i in range(len(OUTPUTS))], axis=1), np.concatenate(sizes, axis=1)


def step_of(x: Floats) -> StepInputs:
    """As many tokens and as many wanted rows as x has rows."""
    return plain_step({"x": x}, logit_rows=range(len(x)))


def check_linear(
    device: CpuDevice, weight_type: WeightType, num_inputs: int, policy: Policy, *, num_rows: str = "T"
) -> None:
    """All row counts against the reference; a row's bits must not depend on how many there are."""
    reference, sizes = expected(weight_type, num_inputs, policy, num_rows)
    case = linear_case(matrices(weight_type, num_inputs), policy, num_rows=num_rows)
    x = normal((200, num_inputs), num_inputs)
    steps = case.on_cpu(device, [step_of(x[:n]) for n in ROWS])
    got = [np.concatenate([out[f"y{i}"] for i in range(len(OUTPUTS))], axis=1) for out in steps]
    for rows, values in zip(ROWS, got, strict=True):
        assert np.array_equal(values, got[-1][:rows]), f"{rows} rows differ from the same rows among 200"
    is_integer = policy is Policy.FAST or (policy is Policy.AUTO and weight_type in QUANTISED)
    ulps = tolerated_ulps(device, 2 if num_rows == "R" else 1) if is_integer else F32_ULPS
    assert_within(got[-1], reference, sizes, ulps)


@pytest.mark.parametrize(("weight_type", "num_inputs"), [(t, n) for t in QUANTISED for n in INNER[t.block_elements]])
def test_quantised_weights_and_inputs(device: CpuDevice, weight_type: WeightType, num_inputs: int) -> None:
    check_linear(device, weight_type, num_inputs, Policy.AUTO)


@pytest.mark.parametrize("weight_type", [*QUANTISED, WeightType.F32])
def test_inputs_of_two_terms(device: CpuDevice, weight_type: WeightType) -> None:
    policy = Policy.FAST if weight_type is WeightType.F32 else Policy.AUTO
    check_linear(device, weight_type, RAGGED[weight_type.block_elements], policy, num_rows="R")


def test_segments_that_read_one_term_and_two(device: CpuDevice) -> None:
    # Values of attention read two terms of what queries and keys read one of.
    trace = Trace()
    x = rows_of(trace, "x", 256)
    types = {"q": WeightType.Q4_1, "k": WeightType.Q6_K, "v": WeightType.Q5_0}
    tensors = [random_tensor(name, (32, 256), t, seed=1) for name, t in types.items()]
    q, k, v = (ops.linear(x, Weight(t.name, t.shape), name=f"{t.name}_out") for t in tensors)
    y = ops.attention(q, k, v, num_heads=2, kv=KVSpec(2, 16), layer=0, scale=0.25, name="y")
    case = Case(trace.finish([y]), tuple(tensors), Policy.AUTO, taps=("q_out", "k_out", "v_out"))
    for rows in (1, 6, 33):
        steps = [cached_step({"x": normal((rows, 256), 2) * np.float32(1e-3)}, [(0, rows, [2, 0, 1])])]
        (got,), (want,) = case.on_cpu(device, steps, num_blocks=3), case.on_reference(steps, num_blocks=3)
        for tensor in tensors:
            sizes = np.abs(steps[0].tensors["x"]) @ magnitudes(held(tensor, Policy.AUTO)).T
            ulps = tolerated_ulps(device, 2 if tensor.name == "v" else 1)
            assert_within(got[f"{tensor.name}_out"], want[f"{tensor.name}_out"], sizes, ulps)


@pytest.mark.parametrize("weight_type", QUANTISED)
def test_quantised_weights(device: CpuDevice, weight_type: WeightType) -> None:
    check_linear(device, weight_type, RAGGED[weight_type.block_elements], Policy.EXACT)


@pytest.mark.parametrize("num_inputs", [1, 31, 32, 40, 128, 256, 384, 577, 1152])
@pytest.mark.parametrize("policy", [Policy.EXACT, Policy.FAST])
@pytest.mark.parametrize("weight_type", WIDE)
def test_wide_weights(device: CpuDevice, weight_type: WeightType, policy: Policy, num_inputs: int) -> None:
    check_linear(device, weight_type, num_inputs, policy)


@pytest.mark.parametrize("policy", [Policy.EXACT, Policy.AUTO])
def test_segments_of_different_types_with_biases(device: CpuDevice, policy: Policy) -> None:
    # Six matrices: more than one record holds.
    types = (WeightType.Q4_1, WeightType.Q8_0, WeightType.Q6_K, WeightType.Q4_K, WeightType.Q4_0, WeightType.Q5_K)
    sizes = (33, 16, 5, 48, 17, 20)
    tensors = [random_tensor(f"w{n}", (n, 256), t, seed=n) for t, n in zip(types, sizes, strict=True)]
    biases = [
        None,
        stored("b16", normal((16,), 1)),
        stored("b5", normal((5,), 2)),
        None,
        None,
        stored("b20", normal((20,), 3)),
    ]
    case = linear_case(tensors, policy, biases)
    for rows in (1, 7, 20):
        steps = [plain_step({"x": normal((rows, 256), rows)})]
        (got,), (want,) = case.on_cpu(device, steps), case.on_reference(steps)
        for index, tensor in enumerate(tensors):
            name = f"y{index}"
            terms = np.abs(steps[0].tensors["x"]) @ magnitudes(held(tensor, policy)).T + 3
            ulps = F32_ULPS if policy is Policy.EXACT else tolerated_ulps(device, 1)
            assert_within(got[name], want[name], terms, ulps)


def extreme_blocks(weight_type: WeightType, shape: tuple[int, int], code: int) -> StoredTensor:
    """Every bit of every code (and sub-scale) is that of ``code``, 0 or 255; scales are 1."""
    blocks = np.full((shape[0] * shape[1] // weight_type.block_elements, weight_type.block_bytes), code, np.uint8)
    put_ones(blocks, weight_type)
    return StoredTensor(f"w{code}", shape, weight_type, blocks.reshape(-1))


@pytest.mark.parametrize("weight_type", QUANTISED)
def test_no_sum_saturates(device: CpuDevice, weight_type: WeightType) -> None:
    # The largest products that 8-bit activations and the weight's codes can make, all of one sign, and mixed.
    x = np.full((6, 512), 127, np.float32)
    x[1] = -127
    x[2, ::2] = -127
    x[3, 1::4] = -127
    x[4, :256] = -127
    x[5, ::3] = 0
    case = linear_case([extreme_blocks(weight_type, (17, 512), code) for code in (0, 127, 128, 255)], Policy.AUTO)
    for rows in (x, np.repeat(x, 4, axis=0)):
        (got,), (want,) = case.on_cpu(device, [plain_step({"x": rows})]), case.on_reference([plain_step({"x": rows})])
        for name, values in want.items():
            assert np.array_equal(got[name], values), name


@pytest.mark.parametrize("policy", [Policy.EXACT, Policy.AUTO])
@pytest.mark.parametrize("weight_type", [WeightType.Q4_1, WeightType.Q8_0, WeightType.Q6_K])
def test_a_row_that_is_not_finite_spares_the_others(device: CpuDevice, weight_type: WeightType, policy: Policy) -> None:
    case = linear_case([random_tensor("w", (35, 512), weight_type, seed=3)], policy)
    x = normal((12, 512), 4)
    x[5] = 0
    broken = x.copy()
    broken[2, 300], broken[7, 0], broken[9, 511] = np.nan, np.inf, -np.inf
    clean, got = (out["y0"] for out in case.on_cpu(device, [plain_step({"x": rows}) for rows in (x, broken)]))
    is_broken = np.isin(np.arange(12), (2, 7, 9))
    assert not np.isfinite(got[is_broken]).any()
    assert np.isnan(got[is_broken if policy is Policy.AUTO else 2]).all()
    assert np.array_equal(got[~is_broken], clean[~is_broken])
    assert not clean[5].any()


@pytest.mark.parametrize("exponent", [-130, -105, -99, -60, 60, 100])
def test_huge_and_tiny_activations(device: CpuDevice, exponent: int) -> None:
    tensor = random_tensor("w", (20, 64), WeightType.Q4_0, seed=5)
    case = linear_case([tensor], Policy.AUTO)
    steps = [plain_step({"x": np.ldexp(normal((3, 64), 6), exponent)})]
    (got,), (want,) = case.on_cpu(device, steps), case.on_reference(steps)
    sizes = np.abs(steps[0].tensors["x"].astype(np.float64)) @ magnitudes(held(tensor, Policy.AUTO)).T
    assert_within(got["y0"], want["y0"], sizes, tolerated_ulps(device, 1))
    assert got["y0"].any() == (exponent >= -99)


@pytest.mark.parametrize("size", [70, 256])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_fast_narrows_a_weight_that_is_not_finite_to_one_that_says_so(device: CpuDevice, bad: float, size: int) -> None:
    values = normal((20, size), 7)
    values[3, 40] = bad
    case = linear_case([stored("w", values)], Policy.FAST)
    steps = [plain_step({"x": normal((3, size), 8)})]
    (got,), (want,) = case.on_cpu(device, steps), case.on_reference(steps)
    assert np.isnan(got["y0"][:, 3]).all() and np.isfinite(np.delete(got["y0"], 3, axis=1)).all()
    assert np.isnan(want["y0"][:, 3]).all()


def activated_case(
    weight_type: WeightType,
    size: int,
    policy: Policy,
    *,
    quantised: bool,
    is_gated: bool = True,
    kind: Activation = Activation.SILU,
) -> Case:
    """kind(x w^T + b), or kind(gate) * up, read as it is, or through a product with the identity in 8 bits."""
    trace, num_inputs = Trace(), 256
    x = rows_of(trace, "x", num_inputs)
    names = ("gate", "up") if is_gated else ("product",)
    bias = None if is_gated else Weight("bias", (size,))
    parts = [ops.linear(x, Weight(name, (size, num_inputs)), name=name, bias=bias) for name in names]
    y = ops.gated(*parts, kind=kind, name="act") if is_gated else ops.activate(parts[0], kind=kind, name="act")
    tensors = [random_tensor(name, (size, num_inputs), weight_type, seed=size) for name in names]
    if not is_gated:
        tensors.append(stored("bias", normal((size,), 4)))
    if quantised:
        tensors.append(identity(size))
        y = ops.linear(y, Weight("identity", (size, size)), name="out")
    return Case(trace.finish([y]), tuple(tensors), policy)


@cache
def expected_activated(
    weight_type: WeightType, size: int, policy: Policy, *, quantised: bool, is_gated: bool
) -> Floats:
    case = activated_case(weight_type, size, policy, quantised=quantised, is_gated=is_gated)
    (outputs,) = case.on_reference([plain_step({"x": activated_input()})])
    return next(iter(outputs.values()))


def activated_input() -> Floats:
    return normal((20, 256), 9) * np.float32(0.02)


@pytest.mark.parametrize("is_gated", [True, False], ids=["gated", "alone"])
@pytest.mark.parametrize("size", [1, 15, 16, 17, 32, 33, 50])
@pytest.mark.parametrize(
    ("weight_type", "policy"),
    [(WeightType.F16, Policy.EXACT), (WeightType.Q4_1, Policy.AUTO), (WeightType.Q6_K, Policy.AUTO)],
)
def test_activated(device: CpuDevice, weight_type: WeightType, policy: Policy, size: int, is_gated: bool) -> None:
    want = expected_activated(weight_type, size, policy, quantised=False, is_gated=is_gated)
    case = activated_case(weight_type, size, policy, quantised=False, is_gated=is_gated)
    for rows in (1, 5, 20):
        (got,) = case.on_cpu(device, [plain_step({"x": activated_input()[:rows]})])
        np.testing.assert_allclose(got["act"], want[:rows], rtol=3e-5, atol=3e-5 * np.abs(want).max())


@pytest.mark.parametrize("is_gated", [True, False], ids=["gated", "alone"])
@pytest.mark.parametrize("kind", list(Activation))
def test_each_activation(device: CpuDevice, kind: Activation, is_gated: bool) -> None:
    case = activated_case(WeightType.F16, 50, Policy.EXACT, quantised=False, kind=kind, is_gated=is_gated)
    steps = [plain_step({"x": activated_input()})]
    (got,), (want,) = case.on_cpu(device, steps), case.on_reference(steps)
    np.testing.assert_allclose(got["act"], want["act"], rtol=3e-5, atol=3e-5 * np.abs(want["act"]).max())


@pytest.mark.parametrize("is_gated", [True, False], ids=["gated", "alone"])
@pytest.mark.parametrize("size", [32, 64, 96, 288])
def test_activated_into_8_bits(device: CpuDevice, size: int, is_gated: bool) -> None:
    want = expected_activated(WeightType.Q4_0, size, Policy.AUTO, quantised=True, is_gated=is_gated)
    case = activated_case(WeightType.Q4_0, size, Policy.AUTO, quantised=True, is_gated=is_gated)
    for rows in (1, 5, 20):
        (got,) = case.on_cpu(device, [plain_step({"x": activated_input()[:rows]})])
        assert_same_codes(got["out"], want[:rows])
