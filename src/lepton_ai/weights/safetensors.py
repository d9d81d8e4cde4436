"""Safetensors files as a memory-mapped weight store.

A u64 with the header's length, a JSON header, then the tensors' bytes. The rules are those of the format's reference
reader: no tensor twice, and the tensors lie side by side and fill the rest of the file. That reader gives copies, and
bfloat16 only through a tensor library; panels are packed straight from the map.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, TypeGuard

from lepton_ai.errors import InvalidModel, UnsupportedModel, WeightMismatch
from lepton_ai.weights.files import shown
from lepton_ai.weights.formats import WeightType
from lepton_ai.weights.json_object import parse_object
from lepton_ai.weights.mapped import ByteArray, MappedFile
from lepton_ai.weights.store import StoredTensor

MAX_HEADER_BYTES: Final = 32 << 20
"""No published header comes near; Python's objects for one take some ten times its size."""

_MAX_DIMENSIONS: Final = 8
_MAX_ELEMENTS: Final = 1 << 48
_LENGTH_BYTES: Final = 8

_ITEM_BITS: Final[Mapping[str, int]] = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32,
    "I64": 64, "U64": 64, "F64": 64, "C64": 64,
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip
"""Bits of an element of each type of the format."""

_WEIGHT_TYPES: Final[Mapping[str, WeightType]] = {t.value: t for t in (WeightType.F32, WeightType.F16, WeightType.BF16)}


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """A tensor of the header: ``dtype`` as the format names it, bytes ``begin`` to ``end`` of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class RawTensor:
    """The bytes of a tensor, a read-only view of the map, and its ``dtype`` as the format names it."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    data: ByteArray


class SafetensorsFile:
    """One open safetensors file; it implements ``WeightStore``. Use it as a context manager.

    Opening checks the whole header and reads no tensor. Tensors are views of the map: see ``MappedFile``. A tensor of
    a type that is no weight's may lie in the file; asking for it raises UnsupportedModel.

    Raises InvalidModel for a malformed file, and what ``MappedFile`` raises.
    """

    def __init__(self, path: Path, home: Path | None = None) -> None:
        self.path = path
        self._file = MappedFile(path, home)
        try:
            self._entries = parse_header(self._file.data, str(path))
        except BaseException:
            self._file.close()
            raise

    @property
    def num_bytes(self) -> int:
        """Bytes of the file."""
        return self._file.data.nbytes

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the file. Raises InvalidModel if the file changes while it is read."""
        return self._file.digest

    def names(self) -> Sequence[str]:
        """Names of all tensors, in the order of their bytes."""
        return tuple(self._entries)

    def get(self, name: str) -> StoredTensor:
        """One tensor, without reading it.

        Raises WeightMismatch if there is none of this name, UnsupportedModel for a type that weights do not have.
        """
        entry = self._entry(name)
        data = self._file.data[entry.begin : entry.end]
        if entry.dtype not in _WEIGHT_TYPES:
            known = ", ".join(_WEIGHT_TYPES)
            raise UnsupportedModel(
                f"{self.path}: {shown(name)}: expected a weight of type {known}, got {entry.dtype}", param="model"
            )
        return StoredTensor(name, entry.shape, _WEIGHT_TYPES[entry.dtype], data)

    def raw(self, name: str) -> RawTensor:
        """One tensor of whatever type, without reading it. Raises WeightMismatch if there is none of this name."""
        entry = self._entry(name)
        return RawTensor(name, entry.shape, entry.dtype, self._file.data[entry.begin : entry.end])

    def release(self, name: str) -> None:
        """Drop the pages of one tensor from this process's memory; a later access reads them from the file again."""
        entry = self._entry(name)
        self._file.release(entry.begin, entry.end)

    def close(self) -> None:
        """Close the file. Tensors handed out before stay valid."""
        self._file.close()

    def __enter__(self) -> SafetensorsFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _entry(self, name: str) -> TensorEntry:
        try:
            return self._entries[name]
        except KeyError:
            raise WeightMismatch(f"{self.path}: expected a tensor {shown(name)}, got none", param="model") from None


def parse_header(data: ByteArray, label: str) -> dict[str, TensorEntry]:
    """The tensors of a safetensors file, in the order of their bytes. Raises InvalidModel, naming ``label``."""
    if len(data) < _LENGTH_BYTES:
        raise InvalidModel(f"{label}: expected a header, got a file of {len(data)} bytes", param="model")
    length = int.from_bytes(data[:_LENGTH_BYTES].tobytes(), "little")
    limit = min(MAX_HEADER_BYTES, len(data) - _LENGTH_BYTES)
    if not 2 <= length <= limit:
        raise InvalidModel(f"{label}: length of the header: expected 2 to {limit} bytes, got {length}", param="model")
    start = _LENGTH_BYTES + length
    header = parse_object(data[_LENGTH_BYTES:start].tobytes(), f"{label}: header")
    _check_metadata(header.pop("__metadata__", {}), label)
    entries = [_parse_entry(name, value, start, label) for name, value in header.items()]
    entries.sort(key=lambda entry: (entry.begin, entry.end))
    _check_places(entries, start, len(data), label)
    return {entry.name: entry for entry in entries}


def _check_metadata(metadata: object, label: str) -> None:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise InvalidModel(f"{label}: __metadata__: expected an object of strings", param="model")


def _parse_entry(name: str, value: object, start: int, label: str) -> TensorEntry:
    def wrong(what: str) -> InvalidModel:
        return InvalidModel(f"{label}: {shown(name)}: {what}", param="model")

    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        raise wrong("expected dtype, shape and data_offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _ITEM_BITS:
        raise wrong(f"dtype: expected one of {', '.join(_ITEM_BITS)}, got {dtype!r:.40}")
    # Of an empty tensor, too, the other sizes must be ones that an array can have.
    if not _are_sizes(shape) or len(shape) > _MAX_DIMENSIONS or math.prod(filter(None, shape)) > _MAX_ELEMENTS:
        raise wrong(f"shape: expected at most {_MAX_DIMENSIONS} sizes of together 2^48 elements, got {shape!r:.80}")
    if not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise wrong(f"data_offsets: expected a beginning and an end, got {offsets!r:.80}")
    num_bits = math.prod(shape) * _ITEM_BITS[dtype]
    if num_bits != 8 * (offsets[1] - offsets[0]):
        raise wrong(f"data_offsets: expected {num_bits / 8:g} bytes of {dtype} {shape}, got {offsets[1] - offsets[0]}")
    return TensorEntry(name, dtype, tuple(shape), start + offsets[0], start + offsets[1])


def _are_sizes(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def _check_places(entries: Sequence[TensorEntry], start: int, end: int, label: str) -> None:
    """Tensors that overlap, or bytes that belong to none, are how one file can be two."""
    place = start
    for entry in entries:
        if entry.begin != place:
            raise InvalidModel(
                f"{label}: {shown(entry.name)}: expected to begin at byte {place} of the file, got {entry.begin}",
                param="model",
            )
        place = entry.end
    if place != end:
        raise InvalidModel(f"{label}: expected {place} bytes in all, got a file of {end}", param="model")
