"""One end of the connection between a client and an engine's process: whole, checked messages over a socket.

A message is its length (u32, little-endian) and that many bytes of msgpack.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

import msgspec

from lepton_ai.errors import LeptonError

SentT = TypeVar("SentT")
ReceivedT = TypeVar("ReceivedT")

MAX_MESSAGE_BYTES = 64 << 20

_HEADER = struct.Struct("<I")
_READ_BYTES = 1 << 18
_SHORT_BYTES = 4096


class LinkClosed(Exception):
    """The other end is gone, or this one was closed."""


class ProtocolError(LeptonError):
    """The other end sent what no peer of this version sends."""


class Link(Generic[SentT, ReceivedT]):
    """Sends messages of one type, from any thread; receives those of another, in one."""

    def __init__(self, sock: socket.socket, decode: Callable[[bytes | memoryview], ReceivedT]) -> None:
        self._socket = sock
        self._encoder = msgspec.msgpack.Encoder()
        self._decode = decode
        self._send_lock = threading.Lock()
        self._received = bytearray()

    def fileno(self) -> int:
        """Of the socket, to wait for."""
        return self._socket.fileno()

    def send(self, message: SentT) -> None:
        """Send a whole message; waits while the other end does not read.

        Raises LinkClosed, and ProtocolError for a message that is too long to be received.
        """
        with self._send_lock:
            data = self._framed(message)
            try:
                self._socket.sendall(data)
            except OSError as error:
                raise LinkClosed(str(error)) from None

    def send_now(self, message: SentT) -> bool:
        """Send a short message if that takes no waiting; whether it was sent. Raises LinkClosed."""
        if not self._send_lock.acquire(blocking=False):
            return False
        try:
            data = self._framed(message)
            if len(data) > _SHORT_BYTES:
                return False
            num_sent = self._socket.send(data, socket.MSG_DONTWAIT)
            if num_sent < len(data):  # not seen: so little is taken whole or not at all
                self._socket.sendall(data[num_sent:])
            return True
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            raise LinkClosed(str(error)) from None
        finally:
            self._send_lock.release()

    def receive(self, *, wait: bool) -> list[ReceivedT]:
        """The messages that have come. With ``wait`` at least one, without it perhaps none.

        Raises LinkClosed at the end, ProtocolError for bytes that are no message.
        """
        messages: list[ReceivedT] = []
        while True:
            try:
                data = self._socket.recv(_READ_BYTES, 0 if wait and not messages else socket.MSG_DONTWAIT)
            except (BlockingIOError, InterruptedError):
                return messages
            except OSError as error:
                raise LinkClosed(str(error)) from None
            if not data:
                if messages:
                    return messages
                raise LinkClosed("the other end has closed")
            self._received += data
            self._split(messages)
            if len(data) < _READ_BYTES and (messages or not wait):
                return messages

    def close(self) -> None:
        """Close the connection, so that both ends see it; a second time does nothing."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _framed(self, message: SentT) -> bytes:
        body = self._encoder.encode(message)
        if len(body) > MAX_MESSAGE_BYTES:
            raise ProtocolError(f"message: expected at most {MAX_MESSAGE_BYTES} bytes, got {len(body)}")
        return _HEADER.pack(len(body)) + body

    def _split(self, messages: list[ReceivedT]) -> None:
        """Move whole messages from the bytes received to ``messages``."""
        start = 0
        while len(self._received) - start >= _HEADER.size:
            (size,) = _HEADER.unpack_from(self._received, start)
            if size > MAX_MESSAGE_BYTES:
                raise ProtocolError(f"message: expected at most {MAX_MESSAGE_BYTES} bytes, got {size}")
            end = start + _HEADER.size + size
            if len(self._received) < end:
                break
            try:
                messages.append(self._decode(bytes(self._received[start + _HEADER.size : end])))
            except (msgspec.DecodeError, LeptonError) as error:  # of its form; of a value that a type refuses
                raise ProtocolError(f"message: {error}") from None
            start = end
        del self._received[:start]
