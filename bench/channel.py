"""Messages between a benchmark and its workers: a line of JSON, then as many raw bytes as the line announces.

Workers run under other interpreters, so this module needs nothing but the standard library.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO

_SIZE = "payload_bytes"


class ChannelClosed(Exception):
    """The other end is gone."""


@dataclass(frozen=True, slots=True)
class Message:
    """What came: fields of a JSON object, and raw bytes."""

    fields: Mapping[str, object]
    payload: bytes = b""

    def text(self, name: str) -> str:
        """A string field. Raises TypeError for another type, KeyError if it is absent."""
        value = self.fields[name]
        if not isinstance(value, str):
            raise TypeError(f"{name}: expected a string, got {value!r}")
        return value

    def integer(self, name: str) -> int:
        """An integer field. Raises like ``text``."""
        value = self.fields[name]
        if not isinstance(value, int):
            raise TypeError(f"{name}: expected an integer, got {value!r}")
        return value

    def number(self, name: str) -> float:
        """A numeric field. Raises like ``text``."""
        value = self.fields[name]
        if not isinstance(value, int | float):
            raise TypeError(f"{name}: expected a number, got {value!r}")
        return float(value)

    def token_lists(self, name: str) -> list[list[int]]:
        """A field that holds prompts. Raises like ``text``."""
        value = self.fields[name]
        if not isinstance(value, list) or not all(isinstance(prompt, list) for prompt in value):
            raise TypeError(f"{name}: expected lists of token ids, got {value!r:.80}")
        return value


@dataclass(frozen=True, slots=True)
class Channel:
    """Two pipes."""

    reader: IO[bytes]
    writer: IO[bytes]

    def send(self, fields: Mapping[str, object], payload: bytes = b"") -> None:
        """Send a message. Raises ChannelClosed."""
        try:
            self.writer.write(json.dumps({**fields, _SIZE: len(payload)}).encode() + b"\n")
            self.writer.write(payload)
            self.writer.flush()
        except BrokenPipeError:
            raise ChannelClosed from None

    def receive(self) -> Message:
        """Wait for a message. Raises ChannelClosed."""
        line = self.reader.readline()
        if not line.endswith(b"\n"):
            raise ChannelClosed
        fields: dict[str, object] = json.loads(line)
        size = fields.pop(_SIZE)
        if not isinstance(size, int):
            raise TypeError(f"{_SIZE}: expected an integer, got {size!r}")
        payload = self.reader.read(size)
        if len(payload) < size:
            raise ChannelClosed
        return Message(fields, payload)


def standard_channel() -> Channel:
    """The channel of a worker. Whatever else the process writes to standard output goes to standard error."""
    writer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return Channel(sys.stdin.buffer, writer)
