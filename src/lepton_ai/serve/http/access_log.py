"""The access log: a line of JSON for each request, written by a thread of its own."""

from __future__ import annotations

import json
import logging
import os
import queue
import threading
from contextlib import suppress
from pathlib import Path

from lepton_ai.errors import InvalidRequest

STANDARD_ERROR = "-"

_STANDARD_ERROR_DESCRIPTOR = 2
_MAX_WAITING = 10_000
_CLOSE_S = 5.0
_LOG = logging.getLogger("lepton_ai.serve")


class AccessLog:
    """Lines go to ``path``, or to standard error if it is ``-``. ``max_waiting`` lines may wait for a slow disk; those
    that come then are dropped, and the next that is written says how many.

    Raises InvalidRequest for a file that cannot be opened.
    """

    def __init__(self, path: str, *, max_waiting: int = _MAX_WAITING) -> None:
        self._path = None if path == STANDARD_ERROR else Path(path)
        self._descriptor = self._open()
        self._waiting: queue.Queue[dict[str, object] | None] = queue.Queue(max_waiting)
        self._is_reopened = threading.Event()
        self._num_dropped = 0
        self._is_broken = False
        self._thread = threading.Thread(target=self._write_all, name="lepton-access-log", daemon=True)
        self._thread.start()

    def write(self, entry: dict[str, object]) -> None:
        """Have a line written. Never waits, and is called by one thread."""
        try:
            self._waiting.put_nowait(entry | {"dropped": self._num_dropped} if self._num_dropped else entry)
            self._num_dropped = 0
        except queue.Full:
            self._num_dropped += 1

    @property
    def is_behind(self) -> bool:
        """Whether lines wait to be written."""
        return not self._waiting.empty()

    def reopen(self) -> None:
        """Write to the file that has the name now: the one from before may have been moved away."""
        self._is_reopened.set()

    def close(self) -> None:
        """Write what waits, and end. A disk that does not take it holds nobody up for long."""
        with suppress(queue.Full):
            self._waiting.put(None, timeout=_CLOSE_S)
        self._thread.join(_CLOSE_S)

    def _write_all(self) -> None:
        while (entry := self._waiting.get()) is not None:
            try:
                if self._is_reopened.is_set():
                    self._is_reopened.clear()
                    self._close_file()
                    self._descriptor = self._open()
                self._write(_line(entry))
                self._is_broken = False
            except (OSError, InvalidRequest) as error:
                if not self._is_broken:
                    _LOG.error("the access log cannot be written: %s", error)
                self._is_broken = True
        self._close_file()

    def _write(self, line: bytes) -> None:
        while line:
            line = line[os.write(self._descriptor, line) :]

    def _open(self) -> int:
        if self._path is None:
            return _STANDARD_ERROR_DESCRIPTOR
        try:
            return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise InvalidRequest(f"access_log: {self._path}: {error.strerror or error}", param="access_log") from None

    def _close_file(self) -> None:
        if self._path is not None:
            with suppress(OSError):
                os.close(self._descriptor)


def _line(entry: dict[str, object]) -> bytes:
    """ASCII alone: no character of a path can end the line, for whatever program reads it."""
    return json.dumps(entry, ensure_ascii=True, allow_nan=False).encode("ascii") + b"\n"
