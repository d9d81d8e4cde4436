"""GGUF files, versions 2 and 3, little-endian, as a memory-mapped weight store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from lepton_ai.errors import WeightMismatch
from lepton_ai.weights.files import shown
from lepton_ai.weights.gguf_header import TensorInfo, parse_header
from lepton_ai.weights.gguf_metadata import Metadata
from lepton_ai.weights.mapped import MappedFile
from lepton_ai.weights.store import StoredTensor


class GGUFFile:
    """One open GGUF file; it implements ``WeightStore``. Use it as a context manager.

    Opening checks the whole header and reads no tensor and no large metadata value. Tensors are views of the map: they
    stay valid after ``close``, which then leaves the unmapping to the last of them. The file must not be truncated
    while it is open.

    ``home`` is the folder in which the digest is remembered; without it, it is computed by each process that asks.
    Raises what ``MappedFile`` and ``parse_header`` raise.
    """

    def __init__(self, path: Path, home: Path | None = None) -> None:
        self.path = path
        self._file = MappedFile(path, home)
        try:
            self._header = parse_header(self._file.data, str(path))
            # Most of it is the vocabulary, which is read again only where there is no cached one.
            self._file.release(0, self._header.data_start)
        except BaseException:
            self._file.close()
            raise
        self.metadata = Metadata(self._file.data, self._header.entries, str(path))

    @property
    def version(self) -> int:
        """Version of the format: 2 or 3."""
        return self._header.version

    @property
    def alignment(self) -> int:
        """Bytes to which tensors are aligned within the tensor data."""
        return self._header.alignment

    @property
    def num_bytes(self) -> int:
        """Bytes of the file."""
        return self._file.data.nbytes

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the file. Raises InvalidModel if the file changes while it is read."""
        return self._file.digest

    def names(self) -> Sequence[str]:
        """Names of all tensors, in the order of the directory."""
        return tuple(self._header.tensors)

    def get(self, name: str) -> StoredTensor:
        """One tensor, without reading it. Raises WeightMismatch if there is none of this name."""
        info = self._info(name)
        data = self._file.data[info.offset : info.offset + info.num_bytes]
        return StoredTensor(info.name, info.shape, info.type, data)

    def release(self, name: str) -> None:
        """Drop the pages of one tensor from this process's memory; a later access reads them from the file again."""
        info = self._info(name)
        self._file.release(info.offset, info.offset + info.num_bytes)

    def close(self) -> None:
        """Close the file. Tensors handed out before stay valid; everything else raises ValueError from now on."""
        self.metadata.close()
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
