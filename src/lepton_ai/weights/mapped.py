"""A file of weights in memory: mapped whole, read page by page as it is used."""

from __future__ import annotations

import mmap
import os
import threading
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lepton_ai.errors import InvalidModel, StorageError
from lepton_ai.weights.digest import file_digest
from lepton_ai.weights.files import open_regular

ByteArray = npt.NDArray[np.uint8]

_MAPPED_AROUND = 2 << 20
"""The system maps up to so many bytes around the page that is asked for, all that it keeps as one page of its cache:
they are let go of with it.
"""


class MappedFile:
    """One open file. Views of it stay valid after ``close``, which leaves the unmapping to the last of them.

    The file must not change while it is open: that is noticed whenever its data or its digest are asked for, and after
    a release. (To read what was cut off meanwhile still ends the process; the system knows no other answer.)
    ``home`` is the folder in which the digest is remembered; without it, it is computed by each process that asks.
    Raises what ``open_regular`` raises, and StorageError for a file that cannot be mapped.
    """

    def __init__(self, path: Path, home: Path | None = None) -> None:
        self.path = path
        self._home = home
        self._digest: str | None = None
        self._digest_lock = threading.Lock()
        self._file = open_regular(path)
        self._state = self._stat()
        try:
            self._map: mmap.mmap | None = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            self._file.close()
            raise StorageError(f"{path}: cannot be mapped into memory: {error.strerror}", param="model") from None
        self._data: ByteArray | None = np.frombuffer(self._map, np.uint8)

    @property
    def data(self) -> ByteArray:
        """All bytes, read-only. Raises ValueError when the file is closed, InvalidModel when it was changed."""
        if self._data is None:
            raise ValueError(f"{self.path} is closed")
        self._check_unchanged()
        return self._data

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the file, computed by the first thread that asks.

        Raises InvalidModel if the file was changed, or changes while it is read.
        """
        with self._digest_lock:
            if self._digest is None:
                self._check_unchanged()
                self._digest = file_digest(self._file, home=self._home, label=str(self.path))
            return self._digest

    def release(self, begin: int, end: int) -> None:
        """Drop the pages of some bytes from this process's memory; a later access reads them from the file again.

        Whoever copies a model tensor by tensor calls it after each, and so holds one at a time. Raises InvalidModel if
        the file was changed, so that no copy of half a change is kept.
        """
        if self._map is None:
            raise ValueError(f"{self.path} is closed")
        if end > begin:
            start, stop = begin - begin % _MAPPED_AROUND, end + -end % _MAPPED_AROUND
            self._map.madvise(mmap.MADV_DONTNEED, start, min(stop, len(self._map)) - start)
        self._check_unchanged()

    def close(self) -> None:
        """Close the file; a second time does nothing."""
        self._data = self._map = None  # unmapped when the last view is gone
        self._file.close()

    def _check_unchanged(self) -> None:
        if self._stat() != self._state:
            raise InvalidModel(f"{self.path}: the file changed while it was open", param="model")

    def _stat(self) -> tuple[int, int]:
        """Size and time of the last change of content. A file that is replaced stays the one that was opened."""
        status = os.fstat(self._file.fileno())
        return status.st_size, status.st_mtime_ns
