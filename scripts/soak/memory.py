"""Memory of a process, and whether it grows."""

from __future__ import annotations

import resource
from collections.abc import Sequence
from pathlib import Path

import numpy as np

MAX_GROWTH = 0.01
"""Of resident memory, from the second quarter of a run to its last."""

_HUGE_PAGE_BYTES = 2 << 20


def resident_bytes(pid: int | None = None) -> int:
    """Of a process, now; None is this one."""
    pages = int(Path(f"/proc/{pid or 'self'}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def max_growth_in_huge_pages(resident: Sequence[int]) -> float:
    """``MAX_GROWTH`` and one huge page: a heap that lies in them grows by one at a time."""
    return MAX_GROWTH + _HUGE_PAGE_BYTES / resident[0]


def growth(resident: Sequence[int]) -> float:
    """From the second quarter of the samples to the last, relative."""
    quarters = np.array_split(np.array(resident, np.float64), 4)
    return float(np.median(quarters[3]) / np.median(quarters[1]) - 1)
