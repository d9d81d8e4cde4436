"""How often an engine may end before the server gives up, and how long to wait before the next is started."""

from __future__ import annotations

from collections import deque

_FIRST_S, _MOST_S = 1.0, 30.0


class Crashes:
    """Those of the last ``window_s`` seconds, of which there may be ``most``."""

    def __init__(self, most: int, window_s: float) -> None:
        self._most = most
        self._window_s = window_s
        self._times: deque[float] = deque()

    def delay_s(self, now: float) -> float | None:
        """Count one more, and say how long to wait then.

        Not after the first, twice as long after each further one, at most half a minute. None: these are too many.
        """
        while self._times and now - self._times[0] >= self._window_s:
            self._times.popleft()
        self._times.append(now)
        count = len(self._times)
        if count > self._most:
            return None
        return 0.0 if count == 1 else min(_FIRST_S * 2 ** (count - 2), _MOST_S)
