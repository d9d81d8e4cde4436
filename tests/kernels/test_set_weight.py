"""``set_weight``: every reader of a weight sees the new values, in the form that its inputs call for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from tests.kernels.harness import WIDE, Case, Floats, copied, normal, plain_step, rows_of
from tests.models.tiny import random_tensor, stored

from lepton_ai.backends.base import Backend, StepInputs
from lepton_ai.backends.cpu.backend import CpuBackend
from lepton_ai.backends.cpu.device import CpuDevice
from lepton_ai.backends.reference.backend import ReferenceBackend
from lepton_ai.config import Policy
from lepton_ai.errors import InvalidRequest
from lepton_ai.graph import ops
from lepton_ai.graph.tensor import DType, Weight, symbol
from lepton_ai.graph.trace import Trace
from lepton_ai.weights.formats import WeightType

SIZE = 256
STEP = plain_step({"x": normal((5, SIZE), 1)}, token_ids=[3, 0, 15, 16, 20], logit_rows=range(5), targets=[20] * 5)


def tied(weight_type: WeightType, policy: Policy) -> Case:
    """A table that an embedding and two segments of a product read, one of them with a bias; and a norm."""
    trace, table, bias = Trace(), Weight("table", (21, SIZE)), Weight("bias", (21,))
    x = rows_of(trace, "x", SIZE)
    embedded = ops.embedding(trace.input("token_ids", (symbol("T"),), DType.I32), table, name="embedded")
    normed = ops.rms_norm(x, Weight("norm", (SIZE,)), eps=1e-5, name="normed")
    outputs = [
        embedded,
        ops.linear(normed, table, name="plain"),
        ops.linear(normed, table, name="biased", bias=bias),
    ]
    tensors = (random_tensor("table", (21, SIZE), weight_type, seed=2), stored("bias", normal((21,), 3)))
    return Case(trace.finish(outputs), (*tensors, stored("norm", normal((SIZE,), 4))), policy)


def scoring(weight_type: WeightType, policy: Policy) -> Case:
    """A head that ``token_logprob`` reads."""
    trace = Trace()
    rows, targets = (trace.input(name, (symbol("R"),), DType.I32) for name in ("logit_rows", "targets"))
    x = ops.gather_rows(rows_of(trace, "x", SIZE), rows, name="rows")
    y = ops.token_logprob(x, Weight("table", (21, SIZE)), targets, name="y")
    return Case(trace.finish([y]), (random_tensor("table", (21, SIZE), weight_type, seed=2),), policy)


def after(case: Case, backend: Backend, changes: dict[str, Floats], step: StepInputs = STEP) -> dict[str, Floats]:
    """The outputs after the changes, a step having run before them."""
    executable = backend.compile(case.graph, case.store(), case.limits, policy=case.policy)
    cache = backend.allocate_kv([], [])
    executable.run(step, cache).result()
    for name, values in changes.items():
        executable.set_weight(name, values)
    return copied(executable.run(step, cache).result())


@pytest.mark.parametrize("policy", [Policy.EXACT, Policy.AUTO, Policy.FAST])
@pytest.mark.parametrize("weight_type", [WeightType.Q4_0, WeightType.Q6_K, WeightType.Q8_0, *WIDE])
@pytest.mark.parametrize("build", [tied, scoring])
def test_against_the_reference(
    single: CpuDevice, build: Callable[[WeightType, Policy], Case], weight_type: WeightType, policy: Policy
) -> None:
    case = build(weight_type, policy)
    values = {"table": normal((21, SIZE), 5), "bias": normal((21,), 6), "norm": normal((SIZE,), 7)}
    changes = {tensor.name: values[tensor.name] for tensor in case.tensors}
    got, want = after(case, CpuBackend(single), changes), after(case, ReferenceBackend(), changes)
    for name, expected in want.items():
        if name == "embedded":
            assert np.array_equal(got[name], expected)
        else:  # a code of an activation near the middle of two may fall to either
            tolerance = 1e-4 if policy is Policy.EXACT else 0.1
            np.testing.assert_allclose(got[name], expected, rtol=0, atol=tolerance)


def test_a_weight_can_be_replaced_again(single: CpuDevice) -> None:
    case, backend = tied(WeightType.F32, Policy.EXACT), CpuBackend(single)
    executable = backend.compile(case.graph, case.store(), case.limits, policy=case.policy)
    cache = backend.allocate_kv([], [])
    original = case.tensors[0].data.view("<f4").reshape(21, SIZE)
    before = copied(executable.run(STEP, cache).result())
    for values in (normal((21, SIZE), 8), np.asfortranarray(original)):
        executable.set_weight("table", values)
    assert np.array_equal(copied(executable.run(STEP, cache).result())["plain"], before["plain"])


def test_the_new_values_are_copied(single: CpuDevice) -> None:
    case, backend = tied(WeightType.F32, Policy.EXACT), CpuBackend(single)
    executable = backend.compile(case.graph, case.store(), case.limits, policy=case.policy)
    cache = backend.allocate_kv([], [])
    values = {"table": normal((21, SIZE), 8), "bias": normal((21,), 9)}
    for name, array in values.items():
        executable.set_weight(name, array)
    before = copied(executable.run(STEP, cache).result())
    for array in values.values():
        array.fill(0)
    after_fill = copied(executable.run(STEP, cache).result())
    assert all(np.array_equal(before[name], after_fill[name]) for name in before)


def test_refusals(single: CpuDevice) -> None:
    case = tied(WeightType.Q8_0, Policy.AUTO)
    executable = CpuBackend(single).compile(case.graph, case.store(), case.limits, policy=case.policy)
    with pytest.raises(InvalidRequest, match="no weight called 'tables'"):
        executable.set_weight("tables", normal((21, SIZE), 1))
    for name, shape in (("table", (SIZE, 21)), ("bias", (20,)), ("norm", (SIZE, 1))):
        with pytest.raises(InvalidRequest, match=f"{name} has shape"):
            executable.set_weight(name, normal(shape, 1))


def test_a_store_of_other_values_is_the_same_as_setting_them(single: CpuDevice) -> None:
    case, values = tied(WeightType.F32, Policy.EXACT), normal((21, SIZE), 5)
    other = Case(case.graph, (stored("table", values), *case.tensors[1:]), case.policy)
    set_later, stored_so = after(case, CpuBackend(single), {"table": values}), after(other, CpuBackend(single), {})
    assert all(np.array_equal(set_later[name], stored_so[name]) for name in stored_so)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_value_that_is_not_finite_says_so_in_its_output_alone(single: CpuDevice, bad: float) -> None:
    values = normal((21, SIZE), 5)
    values[3, 40] = bad
    case = tied(WeightType.F16, Policy.FAST)
    for backend in (CpuBackend(single), ReferenceBackend()):
        plain = after(case, backend, {"table": values})["plain"]
        assert np.isnan(plain[:, 3]).all() and np.isfinite(np.delete(plain, 3, axis=1)).all()
