"""Answers of HTTP/1.1, taken apart as their bytes come (RFC 9112): no object for a line, no task for a chunk."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping

from lepton_ai.loadgen.failures import MalformedAnswer

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9]\d\d)(?: [^\r\n]*)?")
_HEADER = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([^\r\n\0]*)")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,12})[ \t]*(?:;[^\r\n]*)?")
_MAX_HEAD = 64 << 10
_MAX_LINE = 4 << 10


class _State(enum.Enum):
    HEAD = enum.auto()
    LENGTH = enum.auto()  # a body of known length
    TO_END = enum.auto()  # a body that the end of the connection ends
    CHUNK_SIZE = enum.auto()
    CHUNK = enum.auto()
    CHUNK_END = enum.auto()
    TRAILER = enum.auto()
    DONE = enum.auto()


class ResponseParser:
    """One answer to a GET or a POST. ``status`` is 0 until its head is complete."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self.keeps_alive = False
        self._state = _State.HEAD
        self._rest = b""
        self._left = 0

    @property
    def is_complete(self) -> bool:
        """Whether all of the answer has come."""
        return self._state is _State.DONE

    @property
    def has_begun(self) -> bool:
        """Whether any of it has."""
        return self._state is not _State.HEAD or bool(self._rest)

    def feed(self, data: bytes) -> bytes:
        """What of the body is in the next bytes of the connection. Raises MalformedAnswer."""
        if self._rest:
            data, self._rest = self._rest + data, b""
        if self._state is _State.HEAD:
            data = self._take_head(data)
        match self._state:
            case _State.HEAD:
                return b""
            case _State.TO_END:
                return data
            case _State.LENGTH:
                return self._take_length(data)
            case _State.DONE:
                if data:
                    raise MalformedAnswer(f"HTTP: expected nothing behind an answer, got {len(data)} bytes")
                return b""
            case _:
                return self._take_chunks(data)

    def end(self) -> bool:
        """The connection ended. Returns whether this completes the answer."""
        if self._state is _State.TO_END:
            self._state = _State.DONE
        return self.is_complete

    def _take_head(self, data: bytes) -> bytes:
        """Reads the head if all of it is there, and gives what follows. Interim answers (1xx) are skipped."""
        while True:
            head, end, after = data.partition(b"\r\n\r\n")
            if len(head) > _MAX_HEAD:
                raise MalformedAnswer(f"HTTP: expected a head of at most {_MAX_HEAD} bytes, got more")
            if not end:
                self._rest = data
                return b""
            first, *lines = head.split(b"\r\n")
            match = _STATUS_LINE.fullmatch(first)
            if match is None:
                raise MalformedAnswer(f"HTTP: expected a status line of HTTP/1, got {first[:40]!r}")
            status = int(match[2])
            if status >= 200:
                break
            data = after
        self.status, self.headers = status, _read_headers(lines)
        self._choose_body(is_http_10=match[1] == b"0")
        return after

    def _choose_body(self, *, is_http_10: bool) -> None:
        headers = self.headers
        connection = {word.strip().lower() for word in headers.get("connection", "").split(",")}
        self.keeps_alive = "keep-alive" in connection if is_http_10 else "close" not in connection
        coding, length = headers.get("transfer-encoding"), headers.get("content-length")
        if coding is not None:
            if coding.lower() != "chunked" or length is not None:
                raise MalformedAnswer(f"HTTP: expected a body in chunks or of a length, got {coding!r:.40}, {length!r}")
            self._state = _State.CHUNK_SIZE
        elif self.status in (204, 304) or length == "0":
            self._state = _State.DONE
        elif length is None:
            self._state, self.keeps_alive = _State.TO_END, False
        elif length.isascii() and length.isdigit() and len(length) <= 15:
            self._state, self._left = _State.LENGTH, int(length)
        else:
            raise MalformedAnswer(f"HTTP: expected a content-length in digits, got {length!r:.40}")

    def _take_length(self, data: bytes) -> bytes:
        self._left -= len(data)
        if self._left < 0:
            raise MalformedAnswer(f"HTTP: expected nothing behind an answer, got {-self._left} bytes")
        if self._left == 0:
            self._state = _State.DONE
        return data

    def _take_chunks(self, data: bytes) -> bytes:
        """The chunks of ``data``, joined. What is there of a chunk is given at once, not held back."""
        parts, at, size = [], 0, len(data)
        while self._state is not _State.DONE:
            if self._state is _State.CHUNK:
                part = data[at : at + self._left]
                parts.append(part)
                at += len(part)
                self._left -= len(part)
                if self._left:
                    break
                self._state = _State.CHUNK_END
            end = data.find(b"\r\n", at)
            if end < 0:
                if size - at > _MAX_LINE:
                    raise MalformedAnswer(f"HTTP: expected lines of at most {_MAX_LINE} bytes around chunks, got more")
                self._rest = data[at:]
                break
            self._take_line(data[at:end])
            at = end + 2
        else:
            if at < size:
                raise MalformedAnswer(f"HTTP: expected nothing behind an answer, got {size - at} bytes")
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _take_line(self, line: bytes) -> None:
        """A line around chunks: the size of one, the end of one, or a trailer."""
        if self._state is _State.CHUNK_END:
            if line:
                raise MalformedAnswer("HTTP: expected the end of a chunk where its size says")
            self._state = _State.CHUNK_SIZE
        elif self._state is _State.TRAILER:
            if not line:
                self._state = _State.DONE
        else:
            match = _CHUNK_SIZE.fullmatch(line)
            if match is None:
                raise MalformedAnswer(f"HTTP: expected the size of a chunk, got {line[:40]!r}")
            self._left = int(match[1], 16)
            self._state = _State.CHUNK if self._left else _State.TRAILER


def _read_headers(lines: list[bytes]) -> dict[str, str]:
    """By names in lower case. Of a header that is there twice, the values are joined by commas."""
    headers: dict[str, str] = {}
    for line in lines:
        match = _HEADER.fullmatch(line)
        if match is None:
            raise MalformedAnswer(f"HTTP: expected a header, got {line[:40]!r}")
        name, value = match[1].decode("ascii").lower(), match[2].decode("latin-1").rstrip(" \t")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers
