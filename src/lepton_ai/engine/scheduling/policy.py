"""The numbers behind the order of requests."""

from __future__ import annotations

from dataclasses import dataclass

from lepton_ai.engine.request import Request


@dataclass(frozen=True, slots=True)
class SchedulingPolicy:
    """``ageing_s``: seconds of waiting that are worth a level of priority. ``window``: how many requests of a queue may
    change places. ``max_overtakes``: how often a request lets younger ones of its queue go first."""

    ageing_s: float = 30.0
    window: int = 16
    max_overtakes: int = 8

    def is_due(self, request: Request) -> bool:
        """Whether nobody behind it in its queue may go first any more."""
        return request.num_overtaken >= self.max_overtakes

    def deadline(self, request: Request) -> float:
        """What running requests are ranked by: the time of queueing, ``ageing_s`` later for each level of priority.

        It does not change while a request lives, and only finitely many have an earlier one: who has the earliest is
        never pre-empted, and so each request runs to its end.
        """
        return request.queued_at + self.ageing_s * request.priority
