"""A file of weights in memory: mapped whole, read page by page as it is used."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lepton_ai.errors import StorageError
from lepton_ai.weights.digest import file_digest
from lepton_ai.weights.files import open_regular

ByteArray = npt.NDArray[np.uint8]


class MappedFile:
    """One open file. Views of it stay valid after ``close``, which leaves the unmapping to the last of them.

    The file must not be truncated while it is open. ``home`` is the folder in which the digest is remembered; without
    it, it is computed by each process that asks. Raises what ``open_regular`` raises, and StorageError for a file that
    cannot be mapped.
    """

    def __init__(self, path: Path, home: Path | None = None) -> None:
        self.path = path
        self._home = home
        self._digest: str | None = None
        self._file = open_regular(path)
        try:
            self._map: mmap.mmap | None = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            self._file.close()
            raise StorageError(f"{path}: cannot be mapped into memory: {error.strerror}", param="model") from None
        self._data: ByteArray | None = np.frombuffer(self._map, np.uint8)

    @property
    def data(self) -> ByteArray:
        """All bytes, read-only. Raises ValueError when the file is closed."""
        if self._data is None:
            raise ValueError(f"{self.path} is closed")
        return self._data

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the file. Raises InvalidModel if the file changes while it is read."""
        if self._digest is None:
            self._digest = file_digest(self._file, home=self._home, label=str(self.path))
        return self._digest

    def release(self, begin: int, end: int) -> None:
        """Drop the pages of some bytes from this process's memory; a later access reads them from the file again.

        Whoever copies a model tensor by tensor calls it after each, and so holds one at a time.
        """
        if self._map is None:
            raise ValueError(f"{self.path} is closed")
        start = begin - begin % mmap.PAGESIZE
        if end > start:
            self._map.madvise(mmap.MADV_DONTNEED, start, end - start)

    def close(self) -> None:
        """Close the file; a second time does nothing."""
        self._data = self._map = None  # unmapped when the last view is gone
        self._file.close()
