"""A checkpoint as the transformers library lays it out: ``config.json`` beside safetensors files."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final

from lepton_ai.errors import InvalidModel, ModelNotFound, UnsupportedModel
from lepton_ai.weights.files import shown
from lepton_ai.weights.joined import JoinedStore
from lepton_ai.weights.json_object import read_object
from lepton_ai.weights.safetensors import RawTensor, SafetensorsFile
from lepton_ai.weights.store import StoredTensor

MAX_CONFIG_BYTES: Final = 4 << 20
MAX_INDEX_BYTES: Final = 64 << 20
MAX_SHARDS: Final = 1024

_CONFIG, _SINGLE, _INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
_PICKLES: Final = ("pytorch_model.bin", "pytorch_model.bin.index.json", "model.pt", "model.pth")


class CheckpointFolder:
    """An open checkpoint; it implements ``WeightStore``. Use it as a context manager.

    ``config`` is its ``config.json``, unchecked. ``home`` is where digests are remembered.

    Raises ModelNotFound for a file that is missing, UnsupportedModel for a folder that holds pickles only,
    InvalidModel and WeightMismatch for files that are malformed or contradict each other.
    """

    def __init__(self, path: Path, home: Path | None = None) -> None:
        self.path = path
        self.config = read_object(path / _CONFIG, max_bytes=MAX_CONFIG_BYTES)
        with ExitStack() as stack:
            places = _read_index(path)
            names = sorted(set(places.values())) if places is not None else [_SINGLE]
            files: list[SafetensorsFile] = []
            for name in names:
                files.append(SafetensorsFile(path / name, home))
                stack.callback(files[-1].close)
            self._store = JoinedStore(files, places)
            self._num_bytes = sum(file.num_bytes for file in files)
            stack.pop_all()

    @property
    def num_bytes(self) -> int:
        """Bytes of all safetensors files."""
        return self._num_bytes

    @property
    def digest(self) -> str:
        """Hex digest of the content of all safetensors files."""
        return self._store.digest

    def names(self) -> Sequence[str]:
        """Names of all tensors, as the files have them."""
        return self._store.names()

    def get(self, name: str) -> StoredTensor:
        """One tensor. Raises WeightMismatch if there is none of this name."""
        return self._store.get(name)

    def raw(self, name: str) -> RawTensor:
        """One tensor of whatever type. Raises WeightMismatch if there is none of this name."""
        return self._store.file(name).raw(name)

    def release(self, name: str) -> None:
        """See ``WeightStore.release``."""
        self._store.release(name)

    def close(self) -> None:
        """Close the files."""
        self._store.close()

    def __enter__(self) -> CheckpointFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _read_index(path: Path) -> dict[str, str] | None:
    """Which file has which tensor; None where there is one file."""
    if (path / _INDEX).is_file():
        if (path / _SINGLE).is_file():
            raise InvalidModel(f"{path}: expected {_SINGLE} or {_INDEX}, got both", param="model")
        return _checked_index(read_object(path / _INDEX, max_bytes=MAX_INDEX_BYTES), path / _INDEX)
    if (path / _SINGLE).is_file():
        return None
    if pickle := next((name for name in _PICKLES if (path / name).exists()), None):
        raise UnsupportedModel(
            f"{path}: expected {_SINGLE}, got {pickle}, a pickle, which could run code; "
            "publish or convert the weights as safetensors",
            param="model",
        )
    raise ModelNotFound(f"{path}: expected {_SINGLE} or {_INDEX}, got neither", param="model")


def _checked_index(index: dict[str, object], path: Path) -> dict[str, str]:
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise InvalidModel(f"{path}: weight_map: expected an object of file names", param="model")
    places: dict[str, str] = {}
    for name, file in weight_map.items():
        # A name with a separator would let an index point out of the folder.
        if not isinstance(file, str) or not file.endswith(".safetensors") or "/" in file or "\0" in file:
            raise InvalidModel(
                f"{path}: {shown(name)}: expected a file name that ends in .safetensors, got {file!r:.80}",
                param="model",
            )
        places[name] = file
    if (count := len(set(places.values()))) > MAX_SHARDS:
        raise InvalidModel(f"{path}: expected at most {MAX_SHARDS} files, got {count}", param="model")
    return places
