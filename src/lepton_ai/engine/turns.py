"""A lock whose waiters are served in order, and may leave the queue when what they wait for has happened."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Turns:
    """One thread at a time has the turn, first come, first served. Not reentrant."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._queue: deque[object] = deque()
        self._is_taken = False

    def take(self, is_served: Callable[[], bool]) -> bool:
        """Wait for the turn and take it (True), or for ``is_served`` (False). It is asked whenever a turn ends."""
        with self._condition:
            if not self._is_taken and not self._queue and not is_served():
                self._is_taken = True
                return True
            ticket = object()
            self._queue.append(ticket)
            try:
                while not is_served():
                    if not self._is_taken and self._queue[0] is ticket:
                        self._is_taken = True
                        return True
                    self._condition.wait()
                return False
            finally:
                self._queue.remove(ticket)
                if not self._is_taken:
                    self._condition.notify_all()

    def give(self) -> None:
        """End the turn."""
        self._is_taken = False
        # Whoever is not in the queue yet will find the turn free; whoever is there already holds the lock, or waits.
        if self._queue:
            with self._condition:
                self._condition.notify_all()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Have the turn for the length of a ``with`` block."""
        self.take(lambda: False)
        try:
            yield
        finally:
            self.give()
