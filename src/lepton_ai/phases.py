"""Where the time of a start goes, told by those who spend it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypeAlias


class Phase(NamedTuple):
    """A part of a start. Times are those of ``time.perf_counter``. One name may come several times."""

    name: str
    begin_s: float
    end_s: float


PhaseObserver: TypeAlias = Callable[[Phase], None]
"""Told of each phase as it ends, by the thread that went through it."""


@contextmanager
def phase(name: str, observer: PhaseObserver | None) -> Iterator[None]:
    """The ``with`` block is a phase, of which ``observer`` is told unless it fails. Without one, no clock is read."""
    if observer is None:
        yield
        return
    begin_s = time.perf_counter()
    yield
    observer(Phase(name, begin_s, time.perf_counter()))
