"""The access log: a line of JSON for each request, written by a thread of its own."""

from __future__ import annotations

import json
import logging
import os
import queue
import sys
import threading
from pathlib import Path
from typing import TextIO

from lepton_ai.errors import InvalidRequest

STANDARD_ERROR = "-"

_MAX_WAITING = 10_000
_LOG = logging.getLogger("lepton_ai.serve")


class AccessLog:
    """Lines go to ``path``, or to standard error if it is ``-``. ``max_waiting`` lines may wait for a slow disk; those
    that come then are dropped, and the next that is written says how many.

    Raises InvalidRequest for a file that cannot be opened.
    """

    def __init__(self, path: str, *, max_waiting: int = _MAX_WAITING) -> None:
        self._path = None if path == STANDARD_ERROR else Path(path)
        self._file = self._open()
        self._waiting: queue.Queue[dict[str, object] | None] = queue.Queue(max_waiting)
        self._is_reopened = threading.Event()
        self._num_dropped = 0
        self._thread = threading.Thread(target=self._write_all, name="lepton-access-log", daemon=True)
        self._thread.start()

    def write(self, entry: dict[str, object]) -> None:
        """Have a line written. Never waits, and is called by one thread."""
        try:
            self._waiting.put_nowait(entry | {"dropped": self._num_dropped} if self._num_dropped else entry)
            self._num_dropped = 0
        except queue.Full:
            self._num_dropped += 1

    def reopen(self) -> None:
        """Write to the file that has the name now: the one from before may have been moved away."""
        self._is_reopened.set()

    def close(self) -> None:
        """Write what waits, and end."""
        self._waiting.put(None)
        self._thread.join()
        if self._path is not None:
            self._file.close()

    def _write_all(self) -> None:
        is_broken = False
        while (entry := self._waiting.get()) is not None:
            try:
                if self._is_reopened.is_set() and self._path is not None:
                    self._is_reopened.clear()
                    self._file.close()
                    self._file = self._open()
                self._file.write(_line(entry))
                if self._waiting.empty():
                    self._file.flush()
                is_broken = False
            except (OSError, ValueError, InvalidRequest) as error:  # ValueError: the file is closed
                if not is_broken:
                    _LOG.error("the access log cannot be written: %s", type(error).__name__)
                is_broken = True

    def _open(self) -> TextIO:
        if self._path is None:
            return sys.stderr
        try:
            return open(os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600), "w")
        except OSError as error:
            raise InvalidRequest(f"access_log: {self._path}: {error.strerror or error}", param="access_log") from None


def _line(entry: dict[str, object]) -> str:
    """ASCII alone: no character of a path can end the line, for whatever program reads it."""
    return json.dumps(entry, ensure_ascii=True, allow_nan=False) + "\n"
