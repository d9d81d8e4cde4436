"""The packed cache: packed weights on disk, read at the next start.

A file is written beside its final name, flushed and renamed, so a name always stands for a complete file. A lock on the
folder is held while files are chosen for removal and while a new one is begun; a lock on each unfinished file tells the
ones whose writer lives from the ones it left behind.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from lepton_ai.errors import StorageError
from lepton_ai.weights.packed_file import PackedFile, PackedWriter
from lepton_ai.weights.packed_format import CorruptHeader, PackedKey, PackedLayout, lay_out, stem_prefix

__all__ = ["DEFAULT_MAX_BYTES", "PackedCache", "PackedFile", "PackedKey", "PackedLayout", "PackedWriter", "lay_out"]

DEFAULT_MAX_BYTES: Final = 32 << 30

_SUFFIX: Final = ".pack"
_UNFINISHED_SUFFIX: Final = ".unfinished"
_LOCK_NAME: Final = ".lock"
_FOLDER_MODE: Final = 0o700
_FILE_MODE: Final = 0o600


class PackedCache:
    """The packed files under ``home / "packed"``, together at most ``max_bytes``.

    Any number of processes may use it at once. Nothing is written before ``create``.
    """

    def __init__(self, home: Path, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        self.folder = home / "packed"
        self.max_bytes = max_bytes

    def open(self, key: PackedKey) -> PackedFile | None:
        """The packed form of ``key``, or None if there is none that can be used; a bad one is removed."""
        path = self._path(key)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            packed = PackedFile(descriptor, key)
            with contextlib.suppress(OSError):  # the age that decides what is evicted; a read-only home has none
                os.utime(path)
            return packed
        except (CorruptHeader, OSError):
            with contextlib.suppress(OSError):
                path.unlink()
            return None

    def create(self, key: PackedKey, sizes: Mapping[str, int]) -> PackedWriter:
        """Begin a file with segments of ``sizes`` bytes, its disk space reserved. Use it as a context manager.

        Its ``layout`` says where each segment lies in the payload to be written. The files that were not used for the
        longest time make room. Raises StorageError, leaving nothing behind, if the home cannot be written, the disk is
        full, or the file alone passes ``max_bytes``: then the weights are kept in memory only.
        """
        layout = lay_out(key, sizes)
        if layout.num_bytes > self.max_bytes:
            raise StorageError(
                f"packed cache: expected a model of at most {self.max_bytes} bytes, got {layout.num_bytes}"
            )
        try:
            with self._lock_folder():
                self._make_room(layout.num_bytes)
                unfinished = self.folder / f".{key.file_stem()}.{secrets.token_hex(8)}{_UNFINISHED_SUFFIX}"
                return PackedWriter(_create_locked(unfinished), unfinished, self._path(key), layout)
        except OSError as error:
            raise StorageError(f"{self.folder}: cannot write the packed cache: {error.strerror}") from None

    def forget(self, digest: str) -> int:
        """Remove all packed forms of the checkpoint with this digest. Returns the bytes freed. Raises StorageError."""
        freed = 0
        try:
            if not self.folder.is_dir():
                return 0
            with self._lock_folder():
                for path in self.folder.glob(f"{stem_prefix(digest)}*{_SUFFIX}"):
                    freed += path.stat(follow_symlinks=False).st_size
                    path.unlink()
        except OSError as error:
            raise StorageError(f"{self.folder}: cannot remove packed weights: {error.strerror}") from None
        return freed

    def _path(self, key: PackedKey) -> Path:
        return self.folder / f"{key.file_stem()}{_SUFFIX}"

    @contextlib.contextmanager
    def _lock_folder(self) -> Iterator[None]:
        self.folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
        self.folder.chmod(_FOLDER_MODE)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self.folder / _LOCK_NAME, flags, _FILE_MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _make_room(self, num_bytes: int) -> None:
        """Remove abandoned files, then the least recently used ones until ``num_bytes`` fit; the lock is held."""
        used = 0
        finished: list[tuple[int, int, Path]] = []
        for path in self.folder.iterdir():
            if path.suffix == _UNFINISHED_SUFFIX and _is_abandoned(path):
                path.unlink(missing_ok=True)
                continue
            with contextlib.suppress(FileNotFoundError):  # finished or removed by another process meanwhile
                status = path.stat(follow_symlinks=False)
                used += status.st_size
                if path.suffix == _SUFFIX:
                    finished.append((max(status.st_atime_ns, status.st_mtime_ns), status.st_size, path))
        for _, size, path in sorted(finished):
            if used + num_bytes <= self.max_bytes:
                return
            path.unlink(missing_ok=True)
            used -= size
        if used + num_bytes > self.max_bytes:
            raise OSError(errno.ENOSPC, f"{used} of {self.max_bytes} bytes are being written by other processes")


def _create_locked(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, _FILE_MODE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except BaseException:
        path.unlink()
        os.close(descriptor)
        raise
    return descriptor


def _is_abandoned(path: Path) -> bool:
    """Whether no process holds the lock of an unfinished file."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
