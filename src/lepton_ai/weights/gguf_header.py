"""The header of a GGUF file: version, metadata, tensor directory. Everything in it is checked before it is used.

Source: the GGUF specification, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from lepton_ai.errors import InvalidModel, UnsupportedModel
from lepton_ai.weights.files import shown
from lepton_ai.weights.formats import WeightType
from lepton_ai.weights.gguf_cursor import Cursor
from lepton_ai.weights.gguf_values import Entry, ValueType, decode, measure, read_type

GGUF_MAGIC: Final = b"GGUF"
MAX_HEADER_BYTES: Final = 128 << 20
MAX_KEYS: Final = 1 << 16
MAX_TENSORS: Final = 1 << 16
MAX_KEY_BYTES: Final = (1 << 16) - 1
MAX_TENSOR_NAME_BYTES: Final = 64
MAX_DIMENSIONS: Final = 4
MAX_ALIGNMENT: Final = 1 << 16
DEFAULT_ALIGNMENT: Final = 32

_MIN_KEY_BYTES: Final = 8 + 1 + 4 + 1
_MIN_TENSOR_BYTES: Final = 8 + 1 + 4 + 8 + 4 + 8

_TYPE_NAMES: Final[Mapping[int, str]] = {
    0: "F32",
    1: "F16",
    2: "Q4_0",
    3: "Q4_1",
    6: "Q5_0",
    7: "Q5_1",
    8: "Q8_0",
    9: "Q8_1",
    10: "Q2_K",
    11: "Q3_K",
    12: "Q4_K",
    13: "Q5_K",
    14: "Q6_K",
    15: "Q8_K",
    16: "IQ2_XXS",
    17: "IQ2_XS",
    18: "IQ3_XXS",
    19: "IQ1_S",
    20: "IQ4_NL",
    21: "IQ3_S",
    22: "IQ2_S",
    23: "IQ4_XS",
    24: "I8",
    25: "I16",
    26: "I32",
    27: "I64",
    28: "F64",
    29: "IQ1_M",
    30: "BF16",
    34: "TQ1_0",
    35: "TQ2_0",
    39: "MXFP4",
}
"""ggml's tensor types (ggml.h), so that one that is not supported can be named."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One entry of the directory: ``shape`` is row-major, ``offset`` counts from the start of the file."""

    name: str
    shape: tuple[int, ...]
    type: WeightType
    offset: int
    num_bytes: int


@dataclass(frozen=True, slots=True)
class Header:
    """A checked header. ``data_start`` is the offset of the tensor data."""

    version: int
    alignment: int
    data_start: int
    entries: Mapping[str, Entry]
    tensors: Mapping[str, TensorInfo]


def parse_header(data: npt.NDArray[np.uint8], label: str) -> Header:
    """Read the header of the GGUF file whose bytes are ``data``; ``label`` names it in errors.

    Raises InvalidModel for what the specification forbids, what lies outside of the file and what passes the limits
    of this module; UnsupportedModel for versions, byte orders and tensor types that Lepton does not read.
    """
    is_capped = len(data) > MAX_HEADER_BYTES
    reason = "the limit of headers lies" if is_capped else "the file ends"
    cursor = Cursor(data, label, limit=min(len(data), MAX_HEADER_BYTES), limit_reason=reason)
    version = _read_version(cursor)
    num_tensors = cursor.count("number of tensors", maximum=MAX_TENSORS, min_bytes=_MIN_TENSOR_BYTES)
    num_keys = cursor.count("number of metadata keys", maximum=MAX_KEYS, min_bytes=_MIN_KEY_BYTES)
    entries = _read_entries(cursor, num_keys)
    alignment = _alignment(cursor, entries)
    relative = [_read_tensor(cursor) for _ in range(num_tensors)]
    data_start = -(-cursor.position // alignment) * alignment
    tensors = _place(cursor, relative, data_start, alignment)
    return Header(version, alignment, data_start, entries, tensors)


def _read_version(cursor: Cursor) -> int:
    start = cursor.skip(len(GGUF_MAGIC), "magic")
    magic = cursor.data[start : cursor.position].tobytes()
    if magic != GGUF_MAGIC:
        raise cursor.invalid("magic", repr(GGUF_MAGIC), repr(magic))
    version = cursor.u32("version")
    if version and not version & 0xFFFF:
        raise UnsupportedModel(f"{cursor.label}: expected a little-endian GGUF, got a big-endian one", param="model")
    if version not in (2, 3):
        raise UnsupportedModel(f"{cursor.label}: expected GGUF version 2 or 3, got version {version}", param="model")
    return version


def _read_entries(cursor: Cursor, num_keys: int) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    for index in range(num_keys):
        key = cursor.text(f"metadata key {index}", MAX_KEY_BYTES)
        what = shown(key)
        if key in entries:
            raise cursor.invalid(what, "one value", "the key a second time")
        entries[key] = measure(cursor, read_type(cursor, f"type of {what}"), what)
    return entries


def _alignment(cursor: Cursor, entries: Mapping[str, Entry]) -> int:
    entry = entries.get("general.alignment")
    if entry is None:
        return DEFAULT_ALIGNMENT
    if entry.type is not ValueType.U32:
        raise cursor.invalid("general.alignment", "u32", entry)
    alignment = decode(cursor.data, entry)
    is_valid = isinstance(alignment, int) and 8 <= alignment <= MAX_ALIGNMENT and not alignment & (alignment - 1)
    if not isinstance(alignment, int) or not is_valid:
        raise cursor.invalid("general.alignment", f"a power of two from 8 to {MAX_ALIGNMENT}", alignment)
    return alignment


def _read_tensor(cursor: Cursor) -> TensorInfo:
    """One entry of the directory, its offset still relative to the tensor data."""
    name = cursor.text("tensor name", MAX_TENSOR_NAME_BYTES)
    what = f"tensor {shown(name)}"
    num_dimensions = cursor.u32(f"{what}: number of dimensions")
    if not 1 <= num_dimensions <= MAX_DIMENSIONS:
        raise cursor.invalid(f"{what}: number of dimensions", f"1 to {MAX_DIMENSIONS}", num_dimensions)
    shape = tuple(cursor.u64(f"{what}: dimension {i}") for i in range(num_dimensions))[::-1]
    weight_type = _read_weight_type(cursor, what)
    offset = cursor.u64(f"{what}: offset")
    if 0 in shape:
        raise cursor.invalid(f"{what}: shape", "dimensions of at least 1", shape)
    if shape[-1] % weight_type.block_elements:
        blocks = f"rows of whole {weight_type.value} blocks of {weight_type.block_elements} elements"
        raise cursor.invalid(f"{what}: shape", blocks, shape)
    return TensorInfo(name, shape, weight_type, offset, weight_type.num_bytes(shape))


def _read_weight_type(cursor: Cursor, what: str) -> WeightType:
    tag = cursor.u32(f"{what}: type")
    name = _TYPE_NAMES.get(tag, f"unknown type {tag}")
    try:
        return WeightType(name)
    except ValueError:
        known = ", ".join(member.value for member in WeightType if member.value in _TYPE_NAMES.values())
        raise UnsupportedModel(f"{cursor.label}: {what}: expected type {known}, got {name}", param="model") from None


def _place(cursor: Cursor, relative: list[TensorInfo], data_start: int, alignment: int) -> dict[str, TensorInfo]:
    """The directory in file order, with offsets in the file. No two tensors share a byte.

    Shared bytes are refused because a small file could describe any amount of weights with them.
    """
    tensors: dict[str, TensorInfo] = {}
    for info in relative:
        what = f"tensor {shown(info.name)}"
        if info.name in tensors:
            raise cursor.invalid(what, "one entry", "the name a second time")
        if info.offset % alignment:
            raise cursor.invalid(f"{what}: offset", f"a multiple of {alignment}", info.offset)
        offset = data_start + info.offset
        if offset + info.num_bytes > len(cursor.data):
            expected = f"{info.num_bytes} bytes of {info.type.value} {info.shape} at offset {offset}"
            raise cursor.invalid(what, expected, f"a file of {len(cursor.data)} bytes")
        tensors[info.name] = TensorInfo(info.name, info.shape, info.type, offset, info.num_bytes)
    _check_apart(cursor.label, tensors)
    return tensors


def _check_apart(label: str, tensors: Mapping[str, TensorInfo]) -> None:
    in_order = sorted(tensors.values(), key=lambda info: info.offset)
    for before, after in itertools.pairwise(in_order):
        if before.offset + before.num_bytes > after.offset:
            names = f"{shown(before.name)} and {shown(after.name)}"
            raise InvalidModel(f"{label}: tensors {names}: expected bytes of their own, got shared ones", param="model")
