"""Checked sequential reads of a GGUF header: a length is compared with what is there before it is used."""

from __future__ import annotations

import struct
from typing import Final

import numpy as np
import numpy.typing as npt

from lepton_ai.errors import InvalidModel
from lepton_ai.weights.gguf_strings import string_offsets

_U32: Final = struct.Struct("<I")
_U64: Final = struct.Struct("<Q")


class Cursor:
    """A read position in ``data`` that never passes ``limit``; ``label`` names the file in errors.

    ``limit_reason`` says what lies at the limit ("the file ends"). Every method that reads takes ``what``, the thing
    that is read, and raises InvalidModel naming it.
    """

    __slots__ = ("_buffer", "data", "label", "limit", "limit_reason", "position")

    def __init__(
        self, data: npt.NDArray[np.uint8], label: str, *, limit: int, limit_reason: str, position: int = 0
    ) -> None:
        self._buffer = data.data
        self.data = data
        self.label = label
        self.limit = limit
        self.limit_reason = limit_reason
        self.position = position

    def invalid(self, what: str, expected: str, got: object) -> InvalidModel:
        """The error to raise for ``what``."""
        return InvalidModel(f"{self.label}: {what}: expected {expected}, got {got}", param="model")

    def skip(self, size: int, what: str) -> int:
        """Pass ``size`` bytes and return the offset of the first."""
        start = self.position
        if size > self.limit - start:
            raise InvalidModel(
                f"{self.label}: {what}: expected {size} bytes at offset {start}, "
                f"but {self.limit_reason} at {self.limit}",
                param="model",
            )
        self.position = start + size
        return start

    def u32(self, what: str) -> int:
        """A 4-byte unsigned integer."""
        value: int = _U32.unpack_from(self._buffer, self.skip(4, what))[0]
        return value

    def u64(self, what: str) -> int:
        """An 8-byte unsigned integer."""
        value: int = _U64.unpack_from(self._buffer, self.skip(8, what))[0]
        return value

    def count(self, what: str, *, maximum: int, min_bytes: int) -> int:
        """An 8-byte number of things of at least ``min_bytes`` each, at most ``maximum``, that the rest can hold."""
        count = self.u64(what)
        if count > maximum:
            raise self.invalid(what, f"at most {maximum}", count)
        if count * min_bytes > self.limit - self.position:
            room = f"at most {(self.limit - self.position) // min_bytes} before {self.limit_reason}"
            raise self.invalid(what, room, count)
        return count

    def text(self, what: str, max_bytes: int) -> str:
        """A string of 1 to ``max_bytes`` bytes of UTF-8."""
        length = self.u64(f"length of the {what}")
        if not 1 <= length <= max_bytes:
            raise self.invalid(f"length of the {what}", f"1 to {max_bytes} bytes", length)
        start = self.skip(length, what)
        raw = self._buffer[start : self.position].tobytes()
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            raise self.invalid(what, "UTF-8 text", raw[:80]) from None

    def skip_strings(self, count: int, what: str) -> None:
        """Pass ``count`` strings."""
        try:
            self.position = int(string_offsets(self.data, self.position, count, self.limit)[-1])
        except EOFError:
            raise self.invalid(what, f"{count} strings", f"fewer, as {self.limit_reason} at {self.limit}") from None

    def skip_string(self, what: str) -> None:
        """Pass one string of any length."""
        self.skip(self.u64(f"length of {what}"), what)
