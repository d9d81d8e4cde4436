"""What a step did and where its time went, as typed objects that loggers and timelines take."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from lepton_ai.backends.base import Executable, TimedExecutable
from lepton_ai.engine.plan import ScheduledSequence, StepPlan, TokenOutput
from lepton_ai.engine.request import Request
from lepton_ai.engine.runner import Runner
from lepton_ai.engine.scheduling.scheduler import Scheduler
from lepton_ai.engine.stats import EngineStats


class RequestStep(NamedTuple):
    """A request's part of a step.

    ``prompt_tokens`` are of its prompt, or are computed again after a pre-emption; ``decode_tokens`` is 1 if the step
    computes the token that was sampled last. ``has_row``: a token is sampled.
    """

    request_id: int
    prompt_tokens: int
    decode_tokens: int
    has_row: bool


class Arrival(NamedTuple):
    """A request that the engine took in, at ``at_s``."""

    request_id: int
    at_s: float
    prompt_tokens: int


@dataclass(frozen=True, slots=True)
class StepTrace:
    """One step. ``start_s`` is a time of ``time.perf_counter``, other times are seconds that something took.

    ``schedule_s`` chooses the step, ``execute_s`` runs it, ``update_s`` accounts for it, ``deliver_s`` makes text of
    its tokens. ``kernel_s`` is the part of ``execute_s`` that ops took, by their kind; empty if the backend does not
    measure them.

    ``requests`` are those that ran, highest rank first, ``arrivals`` those that came since the last step, ``preempted``
    those that gave up their blocks for this one. Requests are numbered in the order of coming; after a step that was
    broken off, numbers start again. ``stats`` are those after the step.
    """

    start_s: float
    schedule_s: float
    execute_s: float
    update_s: float
    deliver_s: float
    kernel_s: Mapping[str, float]
    requests: tuple[RequestStep, ...]
    arrivals: tuple[Arrival, ...]
    preempted: tuple[int, ...]
    stats: EngineStats

    @property
    def end_s(self) -> float:
        """The time at which its tokens were handed out."""
        return self.start_s + self.schedule_s + self.execute_s + self.update_s + self.deliver_s

    @property
    def call_s(self) -> float:
        """The part of ``execute_s`` that ops did not take: inputs, outputs, and the way between Python and kernels."""
        return max(0.0, self.execute_s - sum(self.kernel_s.values()))

    @property
    def prompt_tokens(self) -> int:
        """Those of all requests."""
        return sum(request.prompt_tokens for request in self.requests)

    @property
    def decode_tokens(self) -> int:
        """Those of all requests."""
        return sum(request.decode_tokens for request in self.requests)


StepObserver = Callable[[StepTrace], None]
"""Told of each step, in the thread that ran it, before the next one; what it raises breaks the step off."""


class _OpenStep(NamedTuple):
    """A step whose tokens are being handed out; ``times`` are its start and the end of each of its lines."""

    plan: StepPlan
    scheduler: Scheduler
    times: tuple[float, float, float, float]


class StepTracer:
    """Runs steps with a clock in its hand. ``arrive``, ``step`` and ``end_step`` come from one thread at a time."""

    def __init__(self, executable: Executable, clock: Callable[[], float] = time.perf_counter) -> None:
        self.observers: list[StepObserver] = []
        self._timed = executable if isinstance(executable, TimedExecutable) else None
        self._clock = clock
        self._arrivals: list[Arrival] = []
        self._open: _OpenStep | None = None
        if self._timed is not None:
            self._timed.set_timing(enabled=True)

    def arrive(self, request: Request) -> None:
        """Note that a request was queued."""
        self._arrivals.append(Arrival(request.arrival, self._clock(), request.num_prompt_tokens))

    def step(self, scheduler: Scheduler, runner: Runner) -> list[TokenOutput]:
        """What ``Engine.step`` does. ``end_step`` tells the observers of it, once its tokens are handed out."""
        if self._timed is not None:
            self._timed.take_seconds()  # others may have run the executable since the last step
        start = self._clock()
        plan = scheduler.schedule()
        scheduled = self._clock()
        if not plan.sequences:
            return []
        sampled = runner.execute(plan)
        executed = self._clock()
        outputs = scheduler.update(plan, sampled)
        self._open = _OpenStep(plan, scheduler, (start, scheduled, executed, self._clock()))
        return outputs

    def end_step(self) -> None:
        """Its tokens are handed out: tell the observers, unless there was nothing to run."""
        if self._open is None:
            return
        (plan, scheduler, (start, scheduled, executed, updated)), self._open = self._open, None
        step = StepTrace(
            start_s=start,
            schedule_s=scheduled - start,
            execute_s=executed - scheduled,
            update_s=updated - executed,
            deliver_s=self._clock() - updated,
            kernel_s=self._take_kernel_s(),
            requests=tuple(map(_request_step, plan.sequences)),
            arrivals=tuple(self._arrivals),
            preempted=tuple(request.arrival for request in plan.preempted),
            stats=scheduler.stats(),
        )
        self._arrivals.clear()
        for observe in self.observers:
            observe(step)

    def forget(self) -> None:
        """The step was broken off, and its requests are gone."""
        self._arrivals.clear()
        self._open = None

    def close(self) -> None:
        """Measure no longer."""
        if self._timed is not None:
            self._timed.set_timing(enabled=False)

    def _take_kernel_s(self) -> dict[str, float]:
        if self._timed is None:
            return {}
        return {kind: seconds for kind, seconds in self._timed.take_seconds().items() if seconds}


def _request_step(sequence: ScheduledSequence) -> RequestStep:
    request = sequence.request
    # The row's token is there already; one before it that was sampled too had never been computed.
    num_decoded = 1 if sequence.is_sampled and request.num_output_tokens > 1 else 0
    return RequestStep(request.arrival, sequence.num_tokens - num_decoded, num_decoded, sequence.is_sampled)
