"""Recorded steps as a table: ops that are alike in all layers together, each beside its limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lepton_ai.backends.cpu.work import CpuOp
from lepton_ai.cli.profile.limits import Bound, StepLimits
from lepton_ai.cli.profile.recorder import RecordedStep


@dataclass(slots=True)
class OpLine:
    """What the ops called ``name`` take in a step, all layers together: means over steps.

    ``seconds`` last until the next op begins: ``waiting_s`` of them, the first thread is through and waits for the
    others. ``limit_s`` is the sum of their limits, ``bound`` what most of it is: memory, cache or compute.
    """

    op: str
    name: str
    count: int = 0
    weight_bytes: float = 0.0
    kv_bytes: float = 0.0
    activation_bytes: float = 0.0
    macs: float = 0.0
    seconds: float = 0.0
    waiting_s: float = 0.0
    limit_s: float = 0.0
    bound: str = ""

    @property
    def num_bytes(self) -> float:
        """All bytes."""
        return self.weight_bytes + self.kv_bytes + self.activation_bytes

    @property
    def excess_s(self) -> float:
        """Seconds above the limit; fewer than none where the limit is not measured well enough."""
        return self.seconds - self.limit_s


@dataclass(frozen=True, slots=True)
class StepProfile:
    """The time of a kind of step.

    ``step_s`` is the sum of the lines, of ``call_s`` (the way into ops and out of them) and of ``python_s``; of all
    lines, ``waiting_s`` is waiting for other threads. ``limit_s`` is the sum of limits.
    """

    title: str
    num_steps: int
    step_s: float
    limit_s: float
    waiting_s: float
    call_s: float
    python_s: float
    lines: tuple[OpLine, ...]


def fastest_quarter(runs: Sequence[Sequence[RecordedStep]]) -> list[RecordedStep]:
    """The steps of those runs that were disturbed least. A run, of one step or more, does the same as every other."""
    by_time = sorted(runs, key=lambda steps: sum(step.wall_s for step in steps))
    return [step for steps in by_time[: (len(runs) + 3) // 4] for step in steps]


def summarize(title: str, steps: Sequence[RecordedStep], ops: Sequence[CpuOp], limits: StepLimits) -> StepProfile:
    """The profile of some steps, which are alike."""
    assert steps
    lines = tuple(line for line in _lines(steps, ops, limits) if line.seconds > 0)
    call = sum(step.call_s for step in steps) / len(steps)
    wall = sum(step.wall_s for step in steps) / len(steps)
    return StepProfile(
        title=title,
        num_steps=len(steps),
        step_s=wall,
        limit_s=sum(line.limit_s for line in lines),
        waiting_s=sum(line.waiting_s for line in lines),
        call_s=call - sum(line.seconds for line in lines),
        python_s=wall - call,
        lines=lines,
    )


def _lines(steps: Sequence[RecordedStep], ops: Sequence[CpuOp], limits: StepLimits) -> list[OpLine]:
    lines: dict[tuple[str, str], OpLine] = {}
    bounds: dict[tuple[str, str], list[Bound]] = {}
    share = 1 / len(steps)
    times = [_op_times(step.op_seconds) for step in steps]
    for index, op in enumerate(ops):
        key = (op.op, op.name)
        line = lines.setdefault(key, OpLine(*key))
        line.count += 1
        for step, of_ops in zip(steps, times, strict=True):
            work = op.work(step.shape)
            bound = limits.bound(work)
            bounds.setdefault(key, []).append(bound)
            line.weight_bytes += work.weight_bytes * share
            line.kv_bytes += work.kv_bytes * share
            line.activation_bytes += work.activation_bytes * share
            line.macs += work.macs * share
            working, waiting = of_ops[index]
            line.seconds += (working + waiting) * share
            line.waiting_s += waiting * share
            line.limit_s += bound.seconds * share
    for key, line in lines.items():
        line.bound = _name_of(bounds[key])
    return list(lines.values())


def _op_times(op_seconds: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Seconds of working on each op, and of waiting after it: the clock has those before the op that ran next."""
    times = [(0.0, 0.0)] * len(op_seconds)
    last: int | None = None
    for index, (waiting, working) in enumerate(op_seconds):
        if not working:
            continue  # the step had nothing for it
        if last is not None:
            times[last] = (times[last][0], waiting)
        times[index], last = (working, 0.0), index
    return times


def _name_of(bounds: Sequence[Bound]) -> str:
    sums = {
        "memory": sum(bound.memory_s for bound in bounds),
        "cache": sum(bound.cache_s for bound in bounds),
        "compute": sum(bound.compute_s for bound in bounds),
    }
    return max(sums, key=lambda name: sums[name])
