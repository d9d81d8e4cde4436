"""HTTP over a socket, byte by byte: what no proper client would send."""

from __future__ import annotations

import asyncio
import json
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import uvicorn

from lepton_ai.serve.http.bounds import Bounds
from lepton_ai.serve.http.connection import BoundedConfig

DEADLINE_S = 20.0


@dataclass(frozen=True)
class Answer:
    """One answer. ``headers`` have names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> dict[str, Any]:
        """The error in it, which must be one in JSON."""
        assert self.headers["content-type"] == "application/json"
        error = json.loads(self.body)["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert isinstance(error, dict)
        return error


class Client:
    """A connection to the server at ``url``."""

    def __init__(self, url: str, *, receive_bytes: int | None = None) -> None:
        self._socket = socket.socket()
        if receive_bytes is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self._socket.settimeout(DEADLINE_S)
        self._socket.connect((urlsplit(url).hostname, urlsplit(url).port))
        self._buffer = b""

    def send(self, data: bytes) -> None:
        """Send, as far as the server lets: it may have refused already, and closed."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self._socket.sendall(data)

    def answer(self) -> Answer | None:
        """The next answer, None where the connection has ended. Fails if neither comes."""
        while b"\r\n\r\n" not in self._buffer:
            if not self._more():
                assert self._buffer == b"", self._buffer
                return None
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers["content-length"])
        while len(self._buffer) < length:
            assert self._more(), "an answer is cut short"
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        return Answer(int(first.split()[1]), headers, body)

    def is_ended(self) -> bool:
        """Whether the server ends the connection, before the deadline, without another word."""
        return not self._more()

    def has_news(self) -> bool:
        """Whether there is something to read, or the end, without waiting."""
        return bool(self._buffer) or bool(select.select([self._socket], [], [], 0)[0])

    def read_to_the_end(self, *, pause_s: float = 0, stop_at: int | None = None) -> int:
        """How many bytes come, read with pauses, until the connection ends or there are ``stop_at``."""
        num_bytes = 0
        while self._more():
            num_bytes, self._buffer = num_bytes + len(self._buffer), b""
            if stop_at is not None and num_bytes >= stop_at:
                break
            time.sleep(pause_s)
        return num_bytes

    def close(self) -> None:
        """Leave."""
        self._socket.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _more(self) -> bool:
        try:
            data = self._socket.recv(1 << 16)
        except ConnectionResetError:
            return False
        self._buffer += data
        return bool(data)


def exchange(url: str, data: bytes) -> Answer | None:
    """What is answered to ``data`` on a new connection."""
    with Client(url) as client:
        client.send(data)
        return client.answer()


@contextmanager
def listening(app: Any, bounds: Bounds) -> Iterator[str]:
    """The URL of a server for any ASGI application, for the length of a ``with`` block."""
    server = uvicorn.Server(BoundedConfig(app, bounds, port=0, lifespan="off", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    try:
        for _ in range(int(DEADLINE_S * 100)):
            if server.started:
                break
            thread.join(0.01)
            assert thread.is_alive()
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(DEADLINE_S)
        assert not thread.is_alive()
