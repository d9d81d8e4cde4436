"""Loads that run: so many clients, each of which waits for its answer; or arrivals that wait for nothing."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from lepton_ai.loadgen.answer import Outcome
from lepton_ai.loadgen.arrivals import poisson_arrivals
from lepton_ai.loadgen.target import LoadRequest, Target
from lepton_ai.loadgen.workload import Workload

_PAUSE_S = 0.1
"""Before a client asks again whose request failed. Without it, one that is refused at once would ask without end."""


class Progress(Protocol):
    """Who is told how far a load is."""

    def start(self, label: str, total: float) -> None:
        """A load begins; ``total`` is its requests, or its seconds."""

    def update(self, done: float) -> None:
        """So much of the total is done."""

    def finish(self) -> None:
        """The load has ended, well or not."""


@dataclass(frozen=True, slots=True)
class Load:
    """``clients`` that each have one request under way, or ``rate_per_s`` arrivals; one of the two. It ends after
    ``num_requests``, or when none begins any more after ``duration_s``; one of the two. What is under way then ends.
    """

    clients: int | None = None
    rate_per_s: float | None = None
    num_requests: int | None = None
    duration_s: float | None = None

    def __post_init__(self) -> None:
        assert (self.clients is None) != (self.rate_per_s is None)
        assert (self.num_requests is None) != (self.duration_s is None)

    @property
    def label(self) -> str:
        """How it is called."""
        if self.clients is None:
            return f"{self.rate_per_s:g} requests/s"
        return f"{self.clients} client{'s' if self.clients > 1 else ''}"


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a load did. ``elapsed_s`` is from its start to the end of its last answer; ``cpu_s`` is what the client's
    process took of the processor meanwhile."""

    load: Load
    outcomes: Sequence[Outcome]
    elapsed_s: float
    cpu_s: float


async def run_load(target: Target, workload: Workload, load: Load, *, seed: int, progress: Progress) -> Measurement:
    """Run one load to its end. ``seed`` is that of the arrivals."""
    progress.start(load.label, load.num_requests or load.duration_s or 0.0)
    try:
        cpu_s, run = time.process_time(), _Run(target, load, progress)
        if load.clients is not None:
            await asyncio.gather(*(run.be_client(workload) for _ in range(load.clients)))
        else:
            await run.be_crowd(workload, seed)
        elapsed_s, cpu_s = time.monotonic() - run.start_s, time.process_time() - cpu_s
    finally:
        progress.finish()
    return Measurement(load, run.outcomes, elapsed_s, cpu_s)


class _Run:
    """A load under way."""

    def __init__(self, target: Target, load: Load, progress: Progress) -> None:
        self.start_s = time.monotonic()
        self.outcomes: list[Outcome] = []
        self._target = target
        self._load = load
        self._progress = progress
        self._num_begun = 0

    async def be_client(self, workload: Workload) -> None:
        """Closed loop: ask, wait for the answer, ask again."""
        while self._begins(time.monotonic()):
            outcome = await self._ask(workload.next_request(), time.monotonic())
            if outcome.failure is not None:
                await asyncio.sleep(_PAUSE_S)

    async def be_crowd(self, workload: Workload, seed: int) -> None:
        """Open loop: ask when it is time, whatever became of those who asked before."""
        assert self._load.rate_per_s is not None
        tasks = []
        for offset_s in poisson_arrivals(self._load.rate_per_s, seed):
            intended_s = self.start_s + offset_s
            if not self._begins(intended_s):
                break
            request = workload.next_request()
            # Also if it is late: those under way must get their turn.
            await asyncio.sleep(max(intended_s - time.monotonic(), 0.0))
            tasks.append(asyncio.ensure_future(self._ask(request, intended_s)))
        await asyncio.gather(*tasks)

    def _begins(self, at_s: float) -> bool:
        """Whether a request begins that would be sent at ``at_s``; it counts then."""
        load = self._load
        if load.num_requests is not None:
            begins = self._num_begun < load.num_requests
        else:
            begins = load.duration_s is not None and at_s - self.start_s < load.duration_s
        self._num_begun += begins
        return begins

    async def _ask(self, request: LoadRequest, intended_s: float) -> Outcome:
        outcome, duration_s = await self._target.send(request, intended_s), self._load.duration_s
        self.outcomes.append(outcome)
        done = len(self.outcomes) if duration_s is None else min(outcome.end_s - self.start_s, duration_s)
        self._progress.update(done)
        return outcome


async def warm_up(target: Target, workload: Workload, num_requests: int) -> None:
    """Ask ``num_requests`` times, one after another, the first time for as much as any request will. Raises the
    RequestFailed of the first that fails: a load of such requests would measure nothing."""
    requests = itertools.chain([workload.largest_request()], iter(workload.next_request, None))
    for request in itertools.islice(requests, num_requests):
        outcome = await target.send(request, time.monotonic())
        if outcome.failure is not None:
            raise outcome.failure
