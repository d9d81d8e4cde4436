"""Memory of the process for what every step reads: weights, activations, keys and values.

A decode step reads all weights once. With pages of 4 KiB the processor's prefetchers stop at each page and its
translation buffer misses on each; with transparent huge pages (2 MiB) the same kernel reaches the memory's full rate.
"""

from __future__ import annotations

import contextlib
import mmap

import numpy as np
import numpy.typing as npt

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
