"""Typed access to the metadata of a GGUF file: values are decoded, and their types checked, when they are asked for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import cast

import numpy as np
import numpy.typing as npt

from lepton_ai.errors import InvalidModel
from lepton_ai.weights.files import shown
from lepton_ai.weights.gguf_values import Entry, MetadataValue, ValueType, decode


class Metadata(Mapping[str, MetadataValue]):
    """The key-value pairs of a GGUF file, in file order.

    ``metadata[key]`` gives whatever is stored. The ``get_*`` methods raise InvalidModel, naming the file and the key,
    when the value is missing and no default is given, or is not what the method returns; integers of any width are
    integers, but no type is converted into another. Nothing is remembered: keep what is needed twice.
    """

    def __init__(self, data: npt.NDArray[np.uint8], entries: Mapping[str, Entry], label: str) -> None:
        self._data: npt.NDArray[np.uint8] | None = data
        self._entries = entries
        self._label = label

    def __getitem__(self, key: str) -> MetadataValue:
        entry = self._entries[key]
        if self._data is None:
            raise ValueError(f"{self._label} is closed")
        try:
            return decode(self._data, entry)
        except ValueError as error:
            raise InvalidModel(f"{self._label}: {shown(key)}: {error}", param="model") from None

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def close(self) -> None:
        """Let go of the file; values can no longer be decoded."""
        self._data = None

    def type_name(self, key: str) -> str:
        """The stored type: ``u32``, ``string``, ``array of 49152 string``. Raises KeyError for an unknown key."""
        return str(self._entries[key])

    def array_length(self, key: str) -> int:
        """Elements of an array, without decoding it."""
        entry = self._entries.get(key)
        if entry is None or entry.element_type is None:
            raise self._wrong(key, "an array")
        return entry.count

    def get_int(
        self, key: str, default: int | None = None, *, minimum: int | None = None, maximum: int | None = None
    ) -> int:
        """An integer of any width, within the bounds that are given."""
        value = self._find(key, default, "an integer")
        if not isinstance(value, int) or isinstance(value, bool):
            raise self._wrong(key, "an integer")
        if minimum is not None and value < minimum:
            raise self._wrong(key, f"at least {minimum}", value)
        if maximum is not None and value > maximum:
            raise self._wrong(key, f"at most {maximum}", value)
        return value

    def get_float(self, key: str, default: float | None = None) -> float:
        """A finite floating-point number."""
        value = self._find(key, default, "a floating-point number")
        if not isinstance(value, float):
            raise self._wrong(key, "a floating-point number")
        if not math.isfinite(value):
            raise self._wrong(key, "a finite number", value)
        return value

    def get_bool(self, key: str, default: bool | None = None) -> bool:
        """A boolean."""
        value = self._find(key, default, "a boolean")
        if not isinstance(value, bool):
            raise self._wrong(key, "a boolean")
        return value

    def get_str(self, key: str, default: str | None = None) -> str:
        """A string."""
        value = self._find(key, default, "a string")
        if not isinstance(value, str):
            raise self._wrong(key, "a string")
        return value

    def get_str_array(self, key: str) -> list[str]:
        """A list of strings."""
        entry = self._entries.get(key)
        if entry is None or entry.element_type is not ValueType.STRING:
            raise self._wrong(key, "an array of strings")
        return cast("list[str]", self[key])

    def get_int_array(self, key: str) -> npt.NDArray[np.int64]:
        """Integers of any width, as i64."""
        value = self._find(key, None, "an array of integers")
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "iu":
            raise self._wrong(key, "an array of integers")
        if value.dtype == np.uint64 and value.max(initial=0) > np.iinfo(np.int64).max:
            raise self._wrong(key, "integers below 2^63", value.max())
        return value.astype(np.int64)

    def get_float_array(self, key: str) -> npt.NDArray[np.float64]:
        """Finite floating-point numbers, as f64."""
        value = self._find(key, None, "an array of floating-point numbers")
        if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
            raise self._wrong(key, "an array of floating-point numbers")
        if not np.isfinite(value).all():
            raise self._wrong(key, "finite numbers", "infinite or NaN ones")
        return value.astype(np.float64)

    def _find(self, key: str, default: MetadataValue | None, expected: str) -> MetadataValue:
        if key in self:
            return self[key]
        if default is None:
            raise self._wrong(key, expected)
        return default

    def _wrong(self, key: str, expected: str, got: object = None) -> InvalidModel:
        if got is None:
            got = self.type_name(key) if key in self else "nothing: the key is missing"
        return InvalidModel(f"{self._label}: {shown(key)}: expected {expected}, got {got}", param="model")
