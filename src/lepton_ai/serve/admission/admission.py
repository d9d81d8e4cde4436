"""A bound on what waits. Requests go to the engine's own queue at once, which orders them; here they are counted.

What the engine has taken and what waits in it are told apart by counting seats: of ``num_seats`` texts of a model, each
runs; what is beyond them waits.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from lepton_ai.errors import Overloaded
from lepton_ai.serve.admission.drain_rate import DrainRate
from lepton_ai.serve.admission.options import AdmissionOptions

_ACTIVE_S = 60.0
"""A tenant who asked so long ago still counts among those who share the queue."""
_LEAST_RETRY_S, _MOST_RETRY_S = 1, 60
"""Clients of OpenAI's wait for as long as they are told up to a minute; told more, they come at once."""
_UNKNOWN_RETRY_S = 5


class QueueFull(Overloaded):
    """As much waits as may."""

    status, code = 429, "queue_full"


@dataclass(frozen=True, slots=True)
class Claim:
    """What a request needs: ``num_texts`` seats of a model, and ``work`` tokens in all.

    ``tenant`` is the name of a key.
    """

    model: str
    tenant: str
    num_texts: int
    work: int


class Permit:
    """Room for one request, until it is released, which only counts once: also ``with`` does it."""

    def __init__(self, release: Callable[[], None]) -> None:
        self._release: Callable[[], None] | None = release

    def release(self) -> None:
        """Give the room back."""
        release, self._release = self._release, None
        if release is not None:
            release()

    def __enter__(self) -> Permit:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Admission:
    """Lets requests in, or says when to come again. To be used in one thread; ``clock`` gives seconds."""

    def __init__(
        self, options: AdmissionOptions, *, num_seats: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._options = options
        self._num_seats = num_seats
        self._clock = clock
        self._rate = DrainRate()
        self._texts: Counter[str] = Counter()
        self._texts_of_tenant: Counter[tuple[str, str]] = Counter()
        self._asked: dict[str, float] = {}
        self._work = 0

    @property
    def num_texts(self) -> int:
        """Texts in the making, of all models."""
        return self._texts.total()

    @property
    def num_waiting(self) -> int:
        """Those of them that wait for a seat."""
        return sum(max(0, count - self._num_seats) for count in self._texts.values())

    @property
    def work(self) -> int:
        """What they take, in tokens of work."""
        return self._work

    def check(self, model: str, work: int) -> None:
        """Raise QueueFull if a request of at least so much work could not be let in, whosever it is."""
        self._refuse_if_full(Claim(model, "", 1, work))

    def admit(self, claim: Claim) -> Permit:
        """Let a request in. Raises QueueFull."""
        now = self._clock()
        self._asked[claim.tenant] = now
        self._refuse_if_full(claim)
        self._refuse_if_unfair(claim, now)
        if not self.num_texts:
            self._rate.begin(now)
        self._count(claim, 1)
        return Permit(lambda: self._release(claim))

    def _release(self, claim: Claim) -> None:
        self._count(claim, -1)
        self._rate.end(claim.work, self._clock(), is_last=not self.num_texts)

    def _count(self, claim: Claim, sign: int) -> None:
        self._texts[claim.model] += sign * claim.num_texts
        self._texts_of_tenant[claim.model, claim.tenant] += sign * claim.num_texts
        self._work += sign * claim.work

    def _runs_at_once(self, claim: Claim) -> bool:
        """A request that is larger than all seats runs alone, if nothing else does."""
        held = self._texts[claim.model]
        return not held or held + claim.num_texts <= self._num_seats

    def _refuse_if_full(self, claim: Claim) -> None:
        if self._runs_at_once(claim):
            return
        held = self._texts[claim.model]
        waiting = self.num_waiting + held + claim.num_texts - max(held, self._num_seats)
        if waiting > self._options.max_waiting:
            after_s = self._seconds_of_texts(waiting - self._options.max_waiting)
            raise _full(f"{self.num_waiting} wait already, of at most {self._options.max_waiting}", after_s)
        if self._options.max_work is not None and self._work + claim.work > self._options.max_work:
            after_s = self._rate.seconds(self._work + claim.work - self._options.max_work)
            bound = f"with these {claim.work}, of at most {self._options.max_work}"
            raise _full(f"{self._work + claim.work} tokens of work are to do {bound}", after_s)

    def _refuse_if_unfair(self, claim: Claim, now: float) -> None:
        """Those who have asked within a minute share the places, whether or not they got one."""
        self._asked = {tenant: at for tenant, at in self._asked.items() if now - at <= _ACTIVE_S}
        if self._runs_at_once(claim) or len(self._asked) == 1:
            return
        share = math.ceil((self._num_seats + self._options.max_waiting) / len(self._asked))
        mine = self._texts_of_tenant[claim.model, claim.tenant] + claim.num_texts
        if mine > share:
            after_s = self._seconds_of_texts((mine - share) * len(self._asked))
            raise _full(f"{len(self._asked)} share the places, and {share} are for each", after_s)

    def _seconds_of_texts(self, count: int) -> float | None:
        """How long it takes until so many texts have ended."""
        return self._rate.seconds(count * self._work / max(1, self.num_texts))


def _full(reason: str, after_s: float | None) -> QueueFull:
    retry_s = _UNKNOWN_RETRY_S if after_s is None else math.ceil(after_s)
    retry_s = min(max(retry_s, _LEAST_RETRY_S), _MOST_RETRY_S)
    return QueueFull(f"the server is busy: {reason}; try again in {retry_s} s", retry_after_s=retry_s)
