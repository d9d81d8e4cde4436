"""Packed files as memory maps: complete ones to read, and new ones under construction."""

from __future__ import annotations

import contextlib
import mmap
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType

import numpy as np
import numpy.typing as npt

from lepton_ai.errors import StorageError
from lepton_ai.weights.packed_format import (
    PREAMBLE_BYTES,
    CorruptHeader,
    PackedKey,
    PackedLayout,
    check_head,
    header_bytes,
)


class PackedFile:
    """A complete packed file. ``segments`` are read-only views of the map, valid as long as someone holds them.

    ``descriptor`` is an open file, which may be closed afterwards. Raises CorruptHeader unless the file is that of
    ``key`` and no other user could have written it, and OSError if it cannot be read.
    """

    def __init__(self, descriptor: int, key: PackedKey) -> None:
        status = os.fstat(descriptor)
        _check_ownership(status)
        head = os.pread(descriptor, PREAMBLE_BYTES, 0)
        head += os.pread(descriptor, header_bytes(head, status.st_size), PREAMBLE_BYTES)
        layout = check_head(head, key, status.st_size)
        self._map = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
        self._map.madvise(mmap.MADV_WILLNEED)
        self._layout = layout
        self.num_bytes = layout.num_bytes
        self.segments: Mapping[str, npt.NDArray[np.uint8]] = _views(self._map, layout)

    def release(self, name: str) -> None:
        """Drop the pages of a segment that was copied from this process's memory; a later access reads them again."""
        _release_pages(self._map, self._layout, name)

    def close(self) -> None:
        """Drop ``segments``; the file is unmapped when the last view that someone took of it is gone."""
        self.segments = MappingProxyType({})


class PackedWriter:
    """A packed file under construction: fill ``segments``, then ``commit``.

    Leaving the context without a commit removes the file.
    """

    def __init__(self, descriptor: int, path: Path, final_path: Path, key: PackedKey, layout: PackedLayout) -> None:
        self._descriptor, self._path, self._final_path, self._key = descriptor, path, final_path, key
        self._layout = layout
        try:
            # Without its blocks reserved, a write to the map of a file on a full disk would end the process.
            os.posix_fallocate(descriptor, 0, layout.num_bytes)
            os.pwrite(descriptor, layout.head, 0)
            self._map: mmap.mmap | None = mmap.mmap(descriptor, layout.num_bytes)
            self.segments = _views(self._map, layout)
        except OSError as error:
            self._discard()
            raise StorageError(f"{path.parent}: cannot reserve {layout.num_bytes} bytes: {error.strerror}") from None
        except BaseException:
            self._discard()
            raise

    def release(self, name: str) -> None:
        """Drop the pages of a segment that is written from this process's memory; the file keeps them."""
        if self._map is not None:
            _release_pages(self._map, self._layout, name)

    def commit(self) -> PackedFile:
        """Flush the file, give it its name and return it, mapped read-only. Raises StorageError; nothing is left then.

        The views of ``segments`` must not be written any more.
        """
        if self._map is None:
            raise ValueError("the packed file was committed or aborted before")
        try:
            # After a crash, a renamed file whose data never reached the disk would read as zeros.
            self._map.flush()
            os.fsync(self._descriptor)
            packed = PackedFile(self._descriptor, self._key)
            os.rename(self._path, self._final_path)
        except OSError as error:
            self._discard()
            raise StorageError(f"{self._final_path}: cannot be written: {error.strerror}") from None
        self._close()
        with contextlib.suppress(OSError):  # the file is good; only its name may be lost in a crash
            _sync_folder(self._final_path.parent)
        return packed

    def abort(self) -> None:
        """Remove the file; after a commit or an abort, nothing."""
        if self._map is not None:
            self._discard()

    def __enter__(self) -> PackedWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()

    def _discard(self) -> None:
        with contextlib.suppress(OSError):
            self._path.unlink()
        self._close()

    def _close(self) -> None:
        self.segments, self._map = MappingProxyType({}), None
        os.close(self._descriptor)


def _check_ownership(status: os.stat_result) -> None:
    """Raise CorruptHeader for what another user could have written: its bytes would be run as weights."""
    if not stat.S_ISREG(status.st_mode) or status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o022:
        raise CorruptHeader("the file is not one that only its owner can write")


def _views(mapped: mmap.mmap, layout: PackedLayout) -> Mapping[str, npt.NDArray[np.uint8]]:
    data = np.frombuffer(mapped, np.uint8)
    places = layout.segments.items()
    return MappingProxyType({name: data[place.offset : place.offset + place.size] for name, place in places})


def _release_pages(mapped: mmap.mmap, layout: PackedLayout, name: str) -> None:
    place = layout.segments[name]
    start = place.offset - place.offset % mmap.PAGESIZE
    mapped.madvise(mmap.MADV_DONTNEED, start, place.offset + place.size - start)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
