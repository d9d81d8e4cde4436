"""Requests that wait for their turn, and which of them is next.

Three rules, in this order:

- **Priority and age.** A lower ``priority`` goes first. ``ageing_s`` seconds of waiting are worth one level, so that
  nobody waits for ever.
- **Fairness.** Of tenants on one level, the one that was served least (``TenantService``).
- **Order.** Of one tenant's requests on one level, the oldest, unless another of the first ``window`` is rated higher:
  one whose beginning is in the cache. Nobody is overtaken more than ``max_overtakes`` times in that way.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterator

from lepton_ai.engine.request import Request
from lepton_ai.engine.scheduling.policy import SchedulingPolicy
from lepton_ai.engine.scheduling.tenant_service import TenantService

Rate = Callable[[Request], int | None]
"""How much there is for running a request now: more is better, None means that it had better wait."""


class WaitingQueue:
    """Holds requests; ``choose`` says who is next, ``take`` lets it go."""

    def __init__(self, policy: SchedulingPolicy, service: TenantService) -> None:
        self._policy = policy
        self._service = service
        self._queues: dict[tuple[int, str], list[Request]] = {}

    def __len__(self) -> int:
        return sum(len(queue) for queue in self._queues.values())

    def __iter__(self) -> Iterator[Request]:
        for queue in self._queues.values():
            yield from queue

    def __contains__(self, request: Request) -> bool:
        return request in self._queues.get(_key(request), ())

    def add(self, request: Request) -> None:
        """Queue a request: among those of its tenant and priority, in the order of arrival."""
        insort(self._queues.setdefault(_key(request), []), request, key=lambda r: r.arrival)

    def remove(self, request: Request) -> None:
        """Take a request out, whoever is next."""
        queue = self._queues[_key(request)]
        queue.remove(request)
        if not queue:
            del self._queues[_key(request)]

    def heads(self) -> Iterator[Request]:
        """The oldest request of each tenant and priority."""
        for queue in self._queues.values():
            yield queue[0]

    def choose(self, now: float, rate: Rate) -> Request | None:
        """Who is next at the time ``now`` (seconds), or None if nobody is or all had better wait."""
        heads = sorted(
            (self.level(queue[0], now), self._service.served(tenant), queue[0].arrival, queue)
            for (_, tenant), queue in self._queues.items()
        )
        for *_, queue in heads:
            chosen = self._best(queue, rate)
            if chosen is not None:
                return chosen
        return None

    def take(self, request: Request) -> None:
        """Let go of a chosen request. Those of its queue that were there before have been overtaken."""
        queue = self._queues[_key(request)]
        for older in queue[: queue.index(request)]:
            older.num_overtaken += 1
        self.remove(request)

    def level(self, request: Request, now: float) -> int:
        """The priority that a request has come to by waiting."""
        return request.priority - int((now - request.queued_at) / self._policy.ageing_s)

    def _best(self, queue: list[Request], rate: Rate) -> Request | None:
        best, best_rating = None, -1
        for request in queue[: self._policy.window]:
            rating = rate(request)
            if rating is not None and rating > best_rating:
                best, best_rating = request, rating
            if self._policy.is_due(request):
                break
        return best


def _key(request: Request) -> tuple[int, str]:
    return request.priority, request.tenant
