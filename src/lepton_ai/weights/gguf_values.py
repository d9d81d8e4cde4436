"""Values of GGUF metadata: their types, how they are measured when a file is opened, and how they are decoded later.

Source: the GGUF specification, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from lepton_ai.weights.gguf_cursor import Cursor
from lepton_ai.weights.gguf_strings import LENGTH_BYTES, string_offsets

NumberArray: TypeAlias = npt.NDArray[np.integer] | npt.NDArray[np.floating] | npt.NDArray[np.bool_]
MetadataValue: TypeAlias = int | float | bool | str | NumberArray | list[str] | list["MetadataValue"]

MAX_ARRAY_LENGTH: Final = 1 << 22
MAX_ARRAY_DEPTH: Final = 4


class ValueType(enum.IntEnum):
    """Type tags of metadata values, as the file stores them."""

    U8 = 0
    I8 = 1
    U16 = 2
    I16 = 3
    U32 = 4
    I32 = 5
    F32 = 6
    BOOL = 7
    STRING = 8
    ARRAY = 9
    U64 = 10
    I64 = 11
    F64 = 12


NUMBER_DTYPES: Final[Mapping[ValueType, np.dtype[np.generic]]] = {
    ValueType.U8: np.dtype("<u1"),
    ValueType.I8: np.dtype("<i1"),
    ValueType.U16: np.dtype("<u2"),
    ValueType.I16: np.dtype("<i2"),
    ValueType.U32: np.dtype("<u4"),
    ValueType.I32: np.dtype("<i4"),
    ValueType.F32: np.dtype("<f4"),
    ValueType.BOOL: np.dtype("<u1"),
    ValueType.U64: np.dtype("<u8"),
    ValueType.I64: np.dtype("<i8"),
    ValueType.F64: np.dtype("<f8"),
}
"""How the types of fixed size are stored."""

_ARRAY_HEADER_BYTES: Final = 12


@dataclass(frozen=True, slots=True)
class Entry:
    """Where one value lies in the file.

    ``offset`` is that of the number, of a string's length field, or of an array's first element; ``end`` is the offset
    of the byte after the value. ``element_type`` and ``count`` describe an array.
    """

    type: ValueType
    offset: int
    end: int
    element_type: ValueType | None = None
    count: int = 1

    def __str__(self) -> str:
        if self.element_type is None:
            return self.type.name.lower()
        return f"array of {self.count} {self.element_type.name.lower()}"


def read_type(cursor: Cursor, what: str) -> ValueType:
    """A type tag. Raises InvalidModel for an unknown one."""
    tag = cursor.u32(what)
    try:
        return ValueType(tag)
    except ValueError:
        raise cursor.invalid(what, f"0 to {max(ValueType)}", tag) from None


def measure(cursor: Cursor, value_type: ValueType, what: str, depth: int = 1) -> Entry:
    """Pass one value and return its extent, without decoding it.

    Raises InvalidModel for lengths past the limit, too many elements and arrays nested too deep.
    """
    start = cursor.position
    if value_type is ValueType.STRING:
        cursor.skip_string(what)
        return Entry(value_type, start, cursor.position)
    if value_type is not ValueType.ARRAY:
        cursor.skip(NUMBER_DTYPES[value_type].itemsize, what)
        return Entry(value_type, start, cursor.position)
    if depth > MAX_ARRAY_DEPTH:
        raise cursor.invalid(what, f"arrays nested at most {MAX_ARRAY_DEPTH} deep", "deeper ones")
    element_type = read_type(cursor, f"element type of {what}")
    min_bytes = _min_bytes(element_type)
    count = cursor.count(f"length of {what}", maximum=MAX_ARRAY_LENGTH, min_bytes=min_bytes)
    start = cursor.position
    if element_type is ValueType.STRING:
        cursor.skip_strings(count, what)
    elif element_type is ValueType.ARRAY:
        for _ in range(count):
            measure(cursor, ValueType.ARRAY, what, depth + 1)
    else:
        cursor.skip(count * min_bytes, what)
    return Entry(value_type, start, cursor.position, element_type, count)


def _min_bytes(element_type: ValueType) -> int:
    if element_type is ValueType.STRING:
        return LENGTH_BYTES
    return _ARRAY_HEADER_BYTES if element_type is ValueType.ARRAY else NUMBER_DTYPES[element_type].itemsize


def decode(data: npt.NDArray[np.uint8], entry: Entry) -> MetadataValue:
    """The value of a measured ``entry``. Arrays of numbers keep the stored type, other arrays are lists.

    Raises ValueError with a reason for text that is not UTF-8 and for a boolean byte other than 0 and 1.
    """
    if entry.element_type is None:
        if entry.type is ValueType.STRING:
            return _text(data[entry.offset + LENGTH_BYTES : entry.end].tobytes())
        scalar: int | float | bool = _numbers(data, entry, entry.type)[0].item()
        return scalar
    if entry.element_type is ValueType.STRING:
        return _strings(data, entry)
    if entry.element_type is ValueType.ARRAY:
        return _nested(data, entry)
    return _numbers(data, entry, entry.element_type)


def _numbers(data: npt.NDArray[np.uint8], entry: Entry, value_type: ValueType) -> NumberArray:
    raw = data[entry.offset : entry.end].copy()
    if value_type is not ValueType.BOOL:
        return raw.view(NUMBER_DTYPES[value_type])
    if raw.max(initial=0) > 1:
        raise ValueError(f"expected boolean bytes of 0 or 1, got {raw.max()}")
    return raw.astype(np.bool_)


def _strings(data: npt.NDArray[np.uint8], entry: Entry) -> list[str]:
    offsets = string_offsets(data, entry.offset, entry.count, entry.end) - entry.offset
    raw = data[entry.offset : entry.end].tobytes()
    starts, ends = (offsets[:-1] + LENGTH_BYTES).tolist(), offsets[1:].tolist()
    return [_text(raw[start:end]) for start, end in zip(starts, ends, strict=True)]


def _nested(data: npt.NDArray[np.uint8], entry: Entry) -> list[MetadataValue]:
    cursor = Cursor(data, "", limit=entry.end, limit_reason="the array ends", position=entry.offset)
    return [decode(data, measure(cursor, ValueType.ARRAY, "element")) for _ in range(entry.count)]


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"expected UTF-8 text, got byte 0x{raw[error.start]:02x} at position {error.start}") from None
