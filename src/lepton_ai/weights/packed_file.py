"""Packed files: complete ones to read, and new ones under construction.

They are written, not mapped, so that a full disk is an error and not the end of the process. Who reads one maps it.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from types import TracebackType

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

ByteArray = npt.NDArray[np.uint8]


class PackedFile:
    """A complete packed file, to be used as a context manager. ``descriptor`` is an open file, which it takes over.

    Raises CorruptHeader unless the file is that of ``key`` and no other user could have written it, and OSError if it
    cannot be read.
    """

    def __init__(self, descriptor: int, key: PackedKey) -> None:
        self._descriptor = descriptor
        try:
            status = os.fstat(descriptor)
            _check_ownership(status)
            head = os.pread(descriptor, PREAMBLE_BYTES, 0)
            head += os.pread(descriptor, header_bytes(head, status.st_size), PREAMBLE_BYTES)
            self.layout = check_head(head, key, status.st_size)
        except BaseException:
            self.close()
            raise

    @property
    def descriptor(self) -> int:
        """The open file. Its payload is ``layout.payload_bytes`` from ``layout.payload_offset`` on."""
        return self._descriptor

    def close(self) -> None:
        """Close the file; a second time does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> PackedFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class PackedWriter:
    """A packed file under construction, its disk space reserved: ``commit`` writes it.

    Leaving the context without a commit removes the file.
    """

    def __init__(self, descriptor: int, path: Path, final_path: Path, layout: PackedLayout) -> None:
        self._descriptor, self._path, self._final_path = descriptor, path, final_path
        self.layout = layout
        try:
            # A full disk is found here, before half the file is written.
            os.posix_fallocate(descriptor, 0, layout.num_bytes)
        except OSError as error:
            self._discard()
            raise StorageError(f"{path.parent}: cannot reserve {layout.num_bytes} bytes: {error.strerror}") from None
        except BaseException:
            self._discard()
            raise

    def commit(self, payload: ByteArray) -> None:
        """Write the file, flush it and give it its name. Raises StorageError; nothing is left then."""
        if self._descriptor < 0:
            raise ValueError("the packed file was committed or aborted before")
        assert payload.nbytes == self.layout.payload_bytes
        try:
            _write_all(self._descriptor, self.layout.head, 0)
            _write_all(self._descriptor, payload.data, self.layout.payload_offset)
            # After a crash, a renamed file whose data never reached the disk would read as zeros.
            os.fsync(self._descriptor)
            os.rename(self._path, self._final_path)
        except OSError as error:
            self._discard()
            raise StorageError(f"{self._final_path}: cannot be written: {error.strerror}") from None
        except BaseException:
            self._discard()
            raise
        self._close()
        with contextlib.suppress(OSError):  # the file is good; only its name may be lost in a crash
            _sync_folder(self._final_path.parent)

    def abort(self) -> None:
        """Remove the file; after a commit or an abort, nothing."""
        if self._descriptor >= 0:
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
        os.close(self._descriptor)
        self._descriptor = -1


def _check_ownership(status: os.stat_result) -> None:
    """Raise CorruptHeader for what another user could have written: its bytes would be run as weights."""
    if not stat.S_ISREG(status.st_mode) or status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o022:
        raise CorruptHeader("the file is not one that only its owner can write")


def _write_all(descriptor: int, data: bytes | memoryview, offset: int) -> None:
    view = memoryview(data)
    while view.nbytes:
        count = os.pwrite(descriptor, view, offset)
        view, offset = view[count:], offset + count


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
