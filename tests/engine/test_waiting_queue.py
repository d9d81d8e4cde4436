from __future__ import annotations

import numpy as np

from lepton_ai.engine.request import Request
from lepton_ai.engine.request_options import RequestOptions
from lepton_ai.engine.sampling_params import SamplingParams
from lepton_ai.engine.scheduling.policy import SchedulingPolicy
from lepton_ai.engine.scheduling.tenant_service import TenantService
from lepton_ai.engine.scheduling.waiting_queue import WaitingQueue

POLICY = SchedulingPolicy(ageing_s=10.0, window=4, max_overtakes=2)


class Queue:
    """A queue whose requests are known by their numbers; ``ratings`` says how they are rated, 0 if it does not."""

    def __init__(self) -> None:
        self.service = TenantService()
        self.queue = WaitingQueue(POLICY, self.service)
        self.ratings: dict[int, int | None] = {}
        self.requests: list[Request] = []

    def add(self, *, at: float = 0.0, priority: int = 0, tenant: str = "") -> None:
        options = RequestOptions(priority=priority, tenant=tenant)
        request = Request.create(np.zeros(3, np.int32), SamplingParams(), max_tokens=4, options=options)
        request.arrival, request.queued_at = len(self.requests), at
        self.requests.append(request)
        self.service.begin(tenant)
        self.queue.add(request)

    def take(self, now: float = 0.0) -> int | None:
        chosen = self.queue.choose(now, lambda r: self.ratings.get(r.arrival, 0))
        if chosen is None:
            return None
        self.queue.take(chosen)
        return chosen.arrival

    def take_all(self, now: float = 0.0) -> list[int | None]:
        return [self.take(now) for _ in range(len(self.queue))]


def test_first_come_first_served() -> None:
    q = Queue()
    for _ in range(3):
        q.add()
    assert q.take_all() == [0, 1, 2] and q.take() is None


def test_a_lower_priority_goes_first() -> None:
    q = Queue()
    for priority in (1, 0, -1, 0):
        q.add(priority=priority)
    assert q.take_all() == [2, 1, 3, 0]


def test_waiting_makes_urgent() -> None:
    q = Queue()
    q.add(priority=2)
    q.add(at=19.0)
    assert q.queue.level(q.requests[0], 19.9) == 1
    assert q.queue.choose(19.9, lambda _: 0) is q.requests[1]
    assert q.take(20.0) == 0, "two levels in twenty seconds, and older"


def test_tenants_take_turns_by_what_they_were_served() -> None:
    q = Queue()
    for tenant in "aaab":
        q.add(tenant=tenant)
    q.service.charge("a", 10)
    assert q.take() == 3
    q.service.charge("b", 50)
    assert q.take_all() == [0, 1, 2]


def test_what_is_rated_higher_goes_first_but_nobody_is_overtaken_for_ever() -> None:
    q = Queue()
    for _ in range(6):
        q.add()
    q.ratings = {2: 5, 3: 5, 4: 9}
    assert q.take() == 2, "the fifth is outside the window"
    assert [r.num_overtaken for r in q.requests] == [1, 1, 0, 0, 0, 0]
    assert q.take() == 4
    assert q.take() == 0, "it was overtaken twice"
    assert q.take() == 1
    assert q.take_all() == [3, 5]


def test_who_had_better_wait_does() -> None:
    q = Queue()
    q.add()
    q.add()
    q.ratings = {0: None}
    assert q.take() == 1
    assert q.take() is None and len(q.queue) == 1
    q.add(tenant="b")
    assert q.take() == 2, "another queue is asked then"
    q.ratings = {}
    assert q.take() == 0


def test_who_comes_back_stands_by_its_age() -> None:
    q = Queue()
    for _ in range(3):
        q.add()
    assert q.take() == 0 and q.take() == 1
    q.queue.add(q.requests[1])
    q.queue.add(q.requests[0])
    assert list(q.queue) == q.requests and q.requests[0] in q.queue
    q.queue.remove(q.requests[0])
    assert q.requests[0] not in q.queue and [*q.queue.heads()] == [q.requests[1]]
