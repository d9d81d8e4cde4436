"""A limit of time for what another process does."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

ANSWER_TIMEOUT_S = 300.0
"""Of an engine, for an answer, or for all that comes before its first one: ten times what the slowest takes."""


class Deadline:
    """Kills a child that is not done within ``seconds``: whoever reads from it then sees its end. Use it as a context
    manager around what the child must not take longer for.
    """

    def __init__(self, pid: int, seconds: float) -> None:
        self.has_passed = False
        self._pid = pid
        self._timer = threading.Timer(seconds, self._kill)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()

    def _kill(self) -> None:
        self.has_passed = True
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
