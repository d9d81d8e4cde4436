"""GGUF files, versions 2 and 3, little-endian, as a memory-mapped weight store."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from lepton_ai.errors import StorageError, WeightMismatch
from lepton_ai.weights.digest import file_digest
from lepton_ai.weights.files import open_regular
from lepton_ai.weights.gguf_cursor import shown
from lepton_ai.weights.gguf_header import TensorInfo, parse_header
from lepton_ai.weights.gguf_metadata import Metadata
from lepton_ai.weights.store import StoredTensor


class GGUFFile:
    """One open GGUF file; it implements ``WeightStore``. Use it as a context manager.

    Opening checks the whole header and reads no tensor and no large metadata value. Tensors are views of the map: they
    stay valid after ``close``, which then leaves the unmapping to the last of them. The file must not be truncated
    while it is open.

    ``home`` is the folder in which the digest is remembered; without it, it is computed by each process that asks.
    Raises what ``open_regular`` and ``parse_header`` raise.
    """

    def __init__(self, path: Path, home: Path | None = None) -> None:
        self.path = path
        self._home = home
        self._digest: str | None = None
        self._file = open_regular(path)
        try:
            self._map: mmap.mmap | None = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
            data = np.frombuffer(self._map, np.uint8)
            self._header = parse_header(data, str(path))
        except OSError as error:
            self._file.close()
            raise StorageError(f"{path}: cannot be mapped into memory: {error.strerror}", param="model") from None
        except BaseException:
            self._file.close()
            raise
        self._data: npt.NDArray[np.uint8] | None = data
        self.metadata = Metadata(data, self._header.entries, str(path))

    @property
    def version(self) -> int:
        """Version of the format: 2 or 3."""
        return self._header.version

    @property
    def alignment(self) -> int:
        """Bytes to which tensors are aligned within the tensor data."""
        return self._header.alignment

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the file. Raises InvalidModel if the file changes while it is read."""
        if self._digest is None:
            self._digest = file_digest(self._file, home=self._home, label=str(self.path))
        return self._digest

    def names(self) -> Sequence[str]:
        """Names of all tensors, in the order of the directory."""
        return tuple(self._header.tensors)

    def get(self, name: str) -> StoredTensor:
        """One tensor, without reading it. Raises WeightMismatch if there is none of this name."""
        info = self._info(name)
        if self._data is None:
            raise self._closed()
        return StoredTensor(info.name, info.shape, info.type, self._data[info.offset : info.offset + info.num_bytes])

    def release(self, name: str) -> None:
        """Drop the pages of one tensor from this process's memory; a later access reads them from the file again.

        Whoever copies a model tensor by tensor calls it after each, and so holds one at a time.
        """
        info = self._info(name)
        if self._map is None:
            raise self._closed()
        start = info.offset - info.offset % mmap.PAGESIZE
        self._map.madvise(mmap.MADV_DONTNEED, start, info.offset + info.num_bytes - start)

    def close(self) -> None:
        """Close the file. Tensors handed out before stay valid; everything else raises ValueError from now on."""
        self.metadata.close()
        self._data = self._map = None  # unmapped when the last view is gone
        self._file.close()

    def __enter__(self) -> GGUFFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _info(self, name: str) -> TensorInfo:
        try:
            return self._header.tensors[name]
        except KeyError:
            raise WeightMismatch(f"{self.path}: expected a tensor {shown(name)}, got none", param="model") from None

    def _closed(self) -> ValueError:
        return ValueError(f"{self.path} is closed")
