"""A checkpoint in several files as one weight store."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from lepton_ai.errors import WeightMismatch
from lepton_ai.weights.files import shown
from lepton_ai.weights.store import StoredTensor, WeightStore


class WeightFile(WeightStore, Protocol):
    """A weight store that is an open file."""

    @property
    def path(self) -> Path:
        """Where it lies."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


File = TypeVar("File", bound=WeightFile)


class JoinedStore(Generic[File]):
    """The tensors of ``files``, in their order; it implements ``WeightStore`` and owns the files.

    ``places``, where the checkpoint has an index, says in which file each tensor must lie.
    Raises WeightMismatch for a tensor that is there twice, and for files that disagree with ``places``.
    """

    def __init__(self, files: Sequence[File], places: Mapping[str, str] | None = None) -> None:
        self._files = tuple(files)
        self._file_of: dict[str, File] = {}
        for file in files:
            for name in file.names():
                if (other := self._file_of.get(name)) is not None:
                    both = f"{other.path.name} and {file.path.name}"
                    raise WeightMismatch(f"{shown(name)}: expected it in one file, got it in {both}", param="model")
                self._file_of[name] = file
        if places is not None:
            self._check_places(places)

    @property
    def digest(self) -> str:
        """Hex SHA-256 over the digests of the files, in their order."""
        if len(self._files) == 1:
            return self._files[0].digest
        return hashlib.sha256("".join(file.digest for file in self._files).encode("ascii")).hexdigest()

    def names(self) -> Sequence[str]:
        """Names of all tensors, file after file."""
        return tuple(self._file_of)

    def get(self, name: str) -> StoredTensor:
        """One tensor. Raises WeightMismatch if there is none of this name."""
        return self.file(name).get(name)

    def release(self, name: str) -> None:
        """See ``WeightStore.release``."""
        self.file(name).release(name)

    def close(self) -> None:
        """Close the files."""
        with ExitStack() as stack:
            for file in self._files:
                stack.callback(file.close)

    def file(self, name: str) -> File:
        """The file that has a tensor. Raises WeightMismatch if none has it."""
        try:
            return self._file_of[name]
        except KeyError:
            raise WeightMismatch(f"weights: expected a tensor {shown(name)}, got none", param="model") from None

    def _check_places(self, places: Mapping[str, str]) -> None:
        problems = [
            f"{shown(name)} is not in {shown(place)}"
            for name, place in places.items()
            if name not in self._file_of or self._file_of[name].path.name != place
        ]
        problems += [f"the index does not know {shown(name)}" for name in self._file_of if name not in places]
        if problems:
            more = f"; and {len(problems) - 8} more" if len(problems) > 8 else ""
            text = "; ".join(problems[:8])
            raise WeightMismatch(f"weights: index and files disagree: {text}{more}", param="model")
