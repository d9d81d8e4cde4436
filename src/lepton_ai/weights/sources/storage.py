"""Disk errors as StorageError, the space check, and the lock that lets one process at a time change a model."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lepton_ai.errors import StorageError

_SLACK_BYTES = 16 << 20
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def is_full(error: OSError) -> bool:
    """Whether a write failed for want of space or quota."""
    return error.errno in _FULL


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turns an OSError inside into a StorageError that names ``path``, or the file that the error itself names."""
    try:
        yield
    except OSError as error:
        where = error.filename or path
        if is_full(error):
            raise StorageError(
                f"{where}: the disk is full; free some space or set LEPTON_HOME to another disk", param="LEPTON_HOME"
            ) from error
        raise StorageError(f"{where}: {error.strerror or error}", param="LEPTON_HOME") from error


def check_space(folder: Path, needed_bytes: int) -> None:
    """Raise StorageError unless the disk of ``folder``, which exists, has so much room and a little more."""
    with storage_errors(folder):
        free_bytes = shutil.disk_usage(folder).free
    if free_bytes < needed_bytes + _SLACK_BYTES:
        raise StorageError(
            f"{folder}: {needed_bytes / 1e6:.0f} MB are needed, {free_bytes / 1e6:.0f} MB are free; "
            "free some space or set LEPTON_HOME to another disk",
            param="LEPTON_HOME",
        )


@contextmanager
def exclusive(path: Path, *, on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold the lock file ``path``; ``on_wait`` is called once if another process, or thread, holds it.

    The file stays: to remove a lock file is to race with whoever has just opened it.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        with storage_errors(path):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                on_wait()
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
