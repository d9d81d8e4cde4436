"""Huge pages for what Python keeps, in processes that live long.

A step of the kernels reads all weights, so that the caches near a core hold nothing of what runs between two steps.
Python's objects are spread over the heap: in pages of 4 KiB, nearly each first touch is a walk through page tables too,
and in a virtual machine through two kinds of them. glibc can ask for pages of 2 MiB instead, of which a few dozen are
enough. How a heap is laid out is said before a process begins, in its environment.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

_ALLOCATOR = "PYTHONMALLOC"
_TUNABLES = "GLIBC_TUNABLES"
_TUNABLE = "glibc.malloc.hugetlb"
_MIN_GLIBC = (2, 35)
_MODES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def with_huge_pages(environ: Mapping[str, str]) -> dict[str, str]:
    """``environ`` for a process with its heap in huge pages, where the system has them, unless it says otherwise."""
    tunables = environ.get(_TUNABLES, "")
    if _ALLOCATOR in environ or _TUNABLE in tunables or not _are_there():
        return dict(environ)
    # Python's own allocator would go around glibc's.
    tunables = f"{tunables}:{_TUNABLE}=1".removeprefix(":")
    return {**environ, _ALLOCATOR: "malloc", _TUNABLES: tunables}


def restart_with_huge_pages() -> None:
    """Begin the command of this process anew, with huge pages. Returns if there would be no difference."""
    environ = with_huge_pages(os.environ)
    if environ != dict(os.environ):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environ)


def kernel_gives_them() -> bool:
    """Whether a process that asks for huge pages may get some."""
    try:
        return "[never]" not in _MODES.read_text()
    except OSError:  # a kernel without them
        return False


def _are_there() -> bool:
    """Whether glibc can ask for huge pages, and the kernel gives them to who asks."""
    try:
        libc, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
        number = tuple(map(int, version.split(".")[:2]))
        return libc == "glibc" and number >= _MIN_GLIBC and kernel_gives_them()
    except (ValueError, OSError):  # another C library
        return False
