"""A GGUF model in several files, as llama.cpp's gguf-split writes it: ``NAME-00001-of-00003.gguf`` and its siblings.

The first part holds the metadata. Each part says which it is (``split.no``, from 0), of how many (``split.count``), and
how many tensors all of them have together (``split.tensors.count``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final

from lepton_ai.errors import InvalidModel, WeightMismatch
from lepton_ai.weights.gguf import GGUFFile
from lepton_ai.weights.gguf_metadata import Metadata
from lepton_ai.weights.joined import JoinedStore
from lepton_ai.weights.store import StoredTensor

MAX_PARTS: Final = 1024

_NAME: Final = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")


def num_parts(metadata: Metadata) -> int:
    """How many files the model has that this is the metadata of. Raises InvalidModel."""
    return metadata.get_int("split.count", 1, minimum=0, maximum=MAX_PARTS)


class SplitGGUF:
    """All parts of a model, opened by the path of the first; it implements ``WeightStore``. A context manager.

    Raises InvalidModel for a path that is not that of the first part and for parts that do not belong together,
    WeightMismatch for tensors that are there twice or missing, and what ``GGUFFile`` raises, ModelNotFound for a part
    that is missing among it.
    """

    def __init__(self, path: Path, home: Path | None = None) -> None:
        self.path = path
        match = _NAME.fullmatch(path.name)
        if match is None or int(match[2]) != 1:
            expected = "the first part of the model, NAME-00001-of-0000N.gguf"
            raise InvalidModel(f"{path}: expected {expected}, got a file of another name", param="model")
        stem, count = match[1], int(match[3])
        if not 1 <= count <= MAX_PARTS:
            raise InvalidModel(f"{path}: expected 1 to {MAX_PARTS} parts, got {count}", param="model")
        with ExitStack() as stack:
            self._parts: list[GGUFFile] = []
            for number in range(count):
                part = GGUFFile(path.with_name(f"{stem}-{number + 1:05}-of-{count:05}.gguf"), home)
                stack.callback(part.close)
                _check_part(part, number, count)
                self._parts.append(part)
            self._store = JoinedStore(self._parts)
            self._check_count()
            stack.pop_all()

    @property
    def metadata(self) -> Metadata:
        """That of the first part."""
        return self._parts[0].metadata

    @property
    def version(self) -> int:
        """Version of the format of the first part: 2 or 3."""
        return self._parts[0].version

    @property
    def num_bytes(self) -> int:
        """Bytes of all files."""
        return sum(part.num_bytes for part in self._parts)

    @property
    def digest(self) -> str:
        """Hex digest of the content of all parts."""
        return self._store.digest

    def names(self) -> Sequence[str]:
        """Names of all tensors, part after part."""
        return self._store.names()

    def get(self, name: str) -> StoredTensor:
        """One tensor. Raises WeightMismatch if there is none of this name."""
        return self._store.get(name)

    def release(self, name: str) -> None:
        """See ``WeightStore.release``."""
        self._store.release(name)

    def close(self) -> None:
        """Close the files."""
        self._store.close()

    def __enter__(self) -> SplitGGUF:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_count(self) -> None:
        expected = self.metadata.get_int("split.tensors.count", len(self.names()))
        if expected != len(self.names()):
            raise WeightMismatch(
                f"{self.path}: split.tensors.count: expected {expected} tensors in all parts, got {len(self.names())}",
                param="model",
            )


def _check_part(part: GGUFFile, number: int, count: int) -> None:
    actual = part.metadata.get_int("split.no"), num_parts(part.metadata)
    if actual != (number, count):
        raise InvalidModel(
            f"{part.path}: split.no, split.count: expected {number}, {count}, got {actual[0]}, {actual[1]}",
            param="model",
        )
