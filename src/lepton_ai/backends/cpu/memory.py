"""Memory of the process for what every step reads: weights, activations, keys and values.

A decode step reads all weights once. With pages of 4 KiB the processor's prefetchers stop at each page and its
translation buffer misses on each; with transparent huge pages (2 MiB) the same kernel reaches the memory's full rate.
"""

from __future__ import annotations

import contextlib
import mmap
import threading
import weakref

import numpy as np
import numpy.typing as npt

from lepton_ai.errors import OutOfMemory

HUGE_PAGE_BYTES = 2 << 20


def huge_zeros(num_bytes: int) -> npt.NDArray[np.uint8]:
    """Zeroed memory that starts at a huge page's boundary and asks for huge pages; taken when first touched.

    Where the kernel has none to give, these are ordinary pages: slower, never wrong.
    """
    region = mmap.mmap(-1, num_bytes + HUGE_PAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError, AttributeError):  # a kernel or a Python without them
        region.madvise(mmap.MADV_HUGEPAGE)
    raw = np.frombuffer(region, np.uint8)
    start = -raw.ctypes.data % HUGE_PAGE_BYTES
    return raw[start : start + num_bytes]


class MemoryBudget:
    """What the regions of a device may take together; ``total_bytes`` None: as much as the machine gives."""

    def __init__(self, total_bytes: int | None = None) -> None:
        self._total_bytes = total_bytes
        self._used_bytes = 0
        self._lock = threading.Lock()

    @property
    def used_bytes(self) -> int:
        """Bytes of the regions that are in use."""
        return self._used_bytes

    @property
    def free_bytes(self) -> int | None:
        """What is left, None without a bound."""
        return None if self._total_bytes is None else self._total_bytes - self._used_bytes

    def zeros(self, num_bytes: int, purpose: str) -> npt.NDArray[np.uint8]:
        """``huge_zeros``, counted until the last view of them is gone. Raises OutOfMemory if they do not fit."""
        self.take(num_bytes, purpose)
        try:
            region = huge_zeros(num_bytes)
        except BaseException:
            self.give_back(num_bytes)
            raise
        weakref.finalize(region.base, self.give_back, num_bytes)
        return region

    def take(self, num_bytes: int, purpose: str) -> None:
        """Count memory that is got elsewhere. Raises OutOfMemory if it does not fit."""
        with self._lock:
            free = self.free_bytes
            if free is not None and num_bytes > free:
                raise OutOfMemory(
                    f"memory_bytes: {purpose} take {num_bytes} bytes, {free} of {self._total_bytes} are left",
                    param="memory_bytes",
                )
            self._used_bytes += num_bytes

    def give_back(self, num_bytes: int) -> None:
        """Count it no more."""
        with self._lock:
            self._used_bytes -= num_bytes
