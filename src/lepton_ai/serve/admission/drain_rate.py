"""How fast work ends."""

from __future__ import annotations

import math

_MEMORY_S = 60.0


class DrainRate:
    """Tokens of work that end in a second of work, over about the last minute of it. Idle time does not count.

    Work counts when its request ends, with its whole price: so fast is room given back, whatever it was used for.
    """

    def __init__(self) -> None:
        self._work = 0.0
        self._time_s = 0.0
        self._since: float | None = None

    def begin(self, now: float) -> None:
        """Something is to do again, since ``now`` (s, by any clock that goes on)."""
        self._since = now

    def end(self, work: int, now: float, *, is_last: bool) -> None:
        """A request has ended; ``is_last``: nothing is to do any more."""
        assert self._since is not None
        elapsed_s = now - self._since
        kept = math.exp(-elapsed_s / _MEMORY_S)
        self._work = self._work * kept + work
        self._time_s = self._time_s * kept + elapsed_s
        self._since = None if is_last else now

    def seconds(self, work: float) -> float | None:
        """How long so much work takes; None as long as nothing was measured."""
        return work * self._time_s / self._work if self._work else None
