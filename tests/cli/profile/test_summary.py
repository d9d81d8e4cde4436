from __future__ import annotations

import pytest
from tests.models.tiny import tiny_model

from lepton_ai.backends.cpu.backend import CpuBackend
from lepton_ai.backends.cpu.device import CpuDevice
from lepton_ai.backends.cpu.work import CpuOp, Product, StepShape, Work
from lepton_ai.cli.kernel_rates import Bandwidth
from lepton_ai.cli.profile.limits import Bound, StepLimits
from lepton_ai.cli.profile.recorder import RecordedStep
from lepton_ai.cli.profile.summary import fastest_quarter, summarize
from lepton_ai.config import Limits, Policy
from lepton_ai.weights.formats import WeightType

SHAPE = StepShape((1,), (10,), 1)


def limits(names: list[str]) -> StepLimits:
    peaks = {(WeightType.F32, 1): 1e9, (WeightType.F32, 64): 4e9}
    return StepLimits(Bandwidth(1e9, 8e9), peaks, dict.fromkeys(names, WeightType.F32))


@pytest.fixture(scope="module")
def ops() -> tuple[CpuOp, ...]:
    model, store = tiny_model()
    plan_limits = Limits(max_tokens=16, max_rows=16, max_seqs=4, max_model_len=128)
    backend = CpuBackend(CpuDevice(num_threads=1))
    return backend.compile(model.build(head="logits"), store, plan_limits, policy=Policy.EXACT).ops


def test_the_limit_is_the_busiest_of_three() -> None:
    rates = limits(["w"])
    work = Work(weight_bytes=3000, kv_bytes=1000, activation_bytes=16000, products=(Product("w", 1, 5000),))
    assert rates.bound(work) == Bound(4e-6, 2e-6, 5e-6) and rates.bound(work).seconds == 5e-6
    attention = Work(kv_bytes=1000, products=(Product(None, 3, 8000),))
    assert rates.bound(attention) == Bound(1e-6, 0.0, 2e-6)


def test_ops_that_are_alike_make_one_line(ops: tuple[CpuOp, ...]) -> None:
    names = [product.weight for op in ops for product in op.work(SHAPE).products if product.weight]
    # Each op waits 1 ms and works 2; the last, the sampler, had nothing to do.
    seconds = [(0.0, 0.002), *[(0.001, 0.002)] * (len(ops) - 2), (0.0, 0.0)]
    step = RecordedStep(SHAPE, wall_s=0.5, call_s=0.4, op_seconds=seconds)
    profile = summarize("decoding", [step, step], ops, limits(names))
    lines = {(line.op, line.name): line for line in profile.lines}
    assert ("sample", "sample") not in lines
    down = lines["linear", "ffn_down"]
    assert (down.count, down.macs, down.weight_bytes) == (2, 2 * 64 * 96, 2 * 4 * 64 * 96)
    assert [down.seconds, down.waiting_s] == pytest.approx([0.006, 0.002])
    assert down.limit_s == pytest.approx(2 * 4 * 64 * 96 / 1e9) and down.bound == "memory"
    assert down.excess_s == pytest.approx(0.006 - down.limit_s)
    # What follows is waited for, and nothing follows the last.
    assert lines["linear", "logits"].waiting_s == 0.0
    num_ran = len(ops) - 1
    assert profile.waiting_s == pytest.approx(0.001 * (num_ran - 1))
    assert profile.call_s == pytest.approx(0.4 - 0.002 * num_ran - profile.waiting_s)
    assert [profile.python_s, profile.step_s] == pytest.approx([0.1, 0.5])
    assert profile.limit_s == pytest.approx(sum(line.limit_s for line in profile.lines))


def test_waiting_belongs_to_the_last_op_that_ran(ops: tuple[CpuOp, ...]) -> None:
    names = [op.name for op in ops]
    seconds = [(0.0, 0.0)] * len(ops)
    seconds[0], seconds[3] = (0.0, 0.002), (0.004, 0.001)
    step = RecordedStep(SHAPE, wall_s=0.5, call_s=0.4, op_seconds=seconds)
    weights = [product.weight for op in ops for product in op.work(SHAPE).products if product.weight]
    first, second = summarize("decoding", [step], ops, limits(weights)).lines
    assert [first.name, second.name] == [names[0], names[3]]
    assert [first.seconds, first.waiting_s] == pytest.approx([0.006, 0.004])
    assert [second.seconds, second.waiting_s] == pytest.approx([0.001, 0.0])


def test_the_fastest_quarter() -> None:
    times = [(3.0, 1.5), (1.0, 3.0), (5.0,), (2.0, 2.5), (6.0,)]
    runs = [[RecordedStep(SHAPE, wall_s=wall, call_s=0.0, op_seconds=[]) for wall in run] for run in times]
    assert [step.wall_s for step in fastest_quarter(runs)] == [1.0, 3.0, 3.0, 1.5]
