"""A minimal GGUF writer for tests.

``write_gguf`` makes a valid file. ``encode_gguf`` also tells where each number of the header lies, so that a test can
overwrite one of them and leave the rest intact.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from lepton_ai.weights.formats import WeightType
from lepton_ai.weights.gguf_values import ValueType

TENSOR_TYPE_TAGS: Mapping[WeightType, int] = {
    WeightType.F32: 0,
    WeightType.F16: 1,
    WeightType.BF16: 30,
    WeightType.Q5_1: 7,
    WeightType.Q4_0: 2,
    WeightType.Q4_1: 3,
    WeightType.Q5_0: 6,
    WeightType.Q8_0: 8,
    WeightType.Q2_K: 10,
    WeightType.Q3_K: 11,
    WeightType.Q4_K: 12,
    WeightType.Q5_K: 13,
    WeightType.Q6_K: 14,
    WeightType.IQ4_NL: 20,
    WeightType.IQ4_XS: 23,
}


@dataclass(frozen=True)
class Typed:
    """A metadata value of a given stored type; for an array, ``type`` is that of its elements."""

    type: ValueType
    value: int | float | bool | str | Sequence[object]


Value: TypeAlias = int | float | bool | str | Sequence[object] | npt.NDArray[np.generic] | Typed
Tensor: TypeAlias = tuple[WeightType, tuple[int, ...], bytes]

_SCALARS: Mapping[ValueType, str] = {
    ValueType.U8: "<B",
    ValueType.I8: "<b",
    ValueType.U16: "<H",
    ValueType.I16: "<h",
    ValueType.U32: "<I",
    ValueType.I32: "<i",
    ValueType.F32: "<f",
    ValueType.BOOL: "<?",
    ValueType.U64: "<Q",
    ValueType.I64: "<q",
    ValueType.F64: "<d",
}
_DTYPES: Mapping[str, ValueType] = {
    "uint8": ValueType.U8,
    "int8": ValueType.I8,
    "uint16": ValueType.U16,
    "int16": ValueType.I16,
    "uint32": ValueType.U32,
    "int32": ValueType.I32,
    "float32": ValueType.F32,
    "bool": ValueType.BOOL,
    "uint64": ValueType.U64,
    "int64": ValueType.I64,
    "float64": ValueType.F64,
}


@dataclass
class EncodedGGUF:
    """The bytes of a file, and ``(offset, size)`` of the numbers in its header.

    Names: ``version``, ``num_tensors``, ``num_keys``; ``key KEY: X`` with X one of name_length, type, element_type,
    length; ``tensor NAME: X`` with X one of name_length, num_dimensions, dimension0..3 (innermost first), type, offset.
    """

    data: bytearray = field(default_factory=bytearray)
    fields: dict[str, tuple[int, int]] = field(default_factory=dict)

    def number(self, name: str, layout: str, value: int) -> None:
        """Append a number and remember where it lies."""
        self.fields[name] = (len(self.data), struct.calcsize(layout))
        self.data += struct.pack(layout, value)

    def text(self, name: str, value: bytes) -> None:
        """Append a string whose length is called ``name``."""
        self.number(name, "<Q", len(value))
        self.data += value

    def patched(self, name: str, value: int) -> bytes:
        """The file with one number replaced (taken modulo its width)."""
        offset, size = self.fields[name]
        data = bytearray(self.data)
        data[offset : offset + size] = (value % (1 << 8 * size)).to_bytes(size, "little")
        return bytes(data)


def write_gguf(
    path: Path, metadata: Mapping[str, Value], tensors: Mapping[str, Tensor], *, version: int = 3, alignment: int = 32
) -> None:
    """Write a GGUF file. A tensor is its type, its row-major shape and its bytes.

    Metadata: ``int`` is stored as u32, or i32 when negative, or 64 bits wide when it must; ``float`` as f32; lists as
    arrays of i32, f32, bool, string or arrays, by their first element; NumPy arrays keep their type. ``Typed`` says
    another type. Raises ValueError for bytes that do not fit the shape.
    """
    path.write_bytes(encode_gguf(metadata, tensors, version=version, alignment=alignment).data)


def encode_gguf(
    metadata: Mapping[str, Value], tensors: Mapping[str, Tensor], *, version: int = 3, alignment: int = 32
) -> EncodedGGUF:
    """What ``write_gguf`` writes, with the places of its numbers."""
    if alignment != 32:
        metadata = {**metadata, "general.alignment": alignment}
    out = EncodedGGUF(bytearray(b"GGUF"))
    out.number("version", "<I", version)
    out.number("num_tensors", "<Q", len(tensors))
    out.number("num_keys", "<Q", len(metadata))
    for key, value in metadata.items():
        out.text(f"key {key}: name_length", key.encode())
        _encode_value(out, key, value)
    offset = 0
    for name, tensor in tensors.items():
        _encode_tensor(out, name, tensor, offset)
        offset += -(-len(tensor[2]) // alignment) * alignment
    for _, _, data in tensors.values():
        out.data += b"\0" * (-len(out.data) % alignment) + data
    return out


def _encode_tensor(out: EncodedGGUF, name: str, tensor: Tensor, offset: int) -> None:
    weight_type, shape, data = tensor
    if len(data) != weight_type.num_bytes(shape):
        raise ValueError(f"{name}: expected {weight_type.num_bytes(shape)} bytes, got {len(data)}")
    out.text(f"tensor {name}: name_length", name.encode())
    out.number(f"tensor {name}: num_dimensions", "<I", len(shape))
    for index, dimension in enumerate(reversed(shape)):
        out.number(f"tensor {name}: dimension{index}", "<Q", dimension)
    out.number(f"tensor {name}: type", "<I", TENSOR_TYPE_TAGS[weight_type])
    out.number(f"tensor {name}: offset", "<Q", offset)


def _encode_value(out: EncodedGGUF, key: str, value: Value) -> None:
    typed = value if isinstance(value, Typed) else _infer(value)
    is_array = isinstance(typed.value, Sequence) and not isinstance(typed.value, str)
    out.number(f"key {key}: type", "<I", ValueType.ARRAY if is_array else typed.type)
    _encode_payload(out, key, typed)


def _encode_payload(out: EncodedGGUF, key: str, typed: Typed) -> None:
    if isinstance(typed.value, str):
        out.text(f"key {key}: length", typed.value.encode())
    elif not isinstance(typed.value, Sequence):
        out.data += struct.pack(_SCALARS[typed.type], typed.value)
    else:
        out.number(f"key {key}: element_type", "<I", typed.type)
        out.number(f"key {key}: length", "<Q", len(typed.value))
        for index, item in enumerate(typed.value):
            if typed.type is ValueType.STRING:
                out.text(f"key {key}: length of {index}", str(item).encode())
            elif typed.type is ValueType.ARRAY:
                inner = item if isinstance(item, Typed) else _infer(item)
                _encode_payload(out, f"{key}[{index}]", inner)
            else:
                out.data += struct.pack(_SCALARS[typed.type], item)


def _infer(value: object) -> Typed:
    if isinstance(value, np.ndarray):
        return Typed(_DTYPES[value.dtype.name], value.tolist())
    if isinstance(value, bool):
        return Typed(ValueType.BOOL, value)
    if isinstance(value, int):
        return Typed(_integer_type(value), value)
    if isinstance(value, float):
        return Typed(ValueType.F32, value)
    if isinstance(value, str):
        return Typed(ValueType.STRING, value)
    if isinstance(value, Sequence):
        return Typed(_element_type(value), value)
    raise TypeError(f"no GGUF type for {type(value).__name__}")


def _integer_type(value: int) -> ValueType:
    if value < 0:
        return ValueType.I32 if value >= -(1 << 31) else ValueType.I64
    return ValueType.U32 if value < 1 << 32 else ValueType.U64


def _element_type(values: Sequence[object]) -> ValueType:
    first = values[0] if values else ""
    if isinstance(first, bool):
        return ValueType.BOOL
    if isinstance(first, int):
        return ValueType.I32
    if isinstance(first, float):
        return ValueType.F32
    return ValueType.STRING if isinstance(first, str) else ValueType.ARRAY
