"""A client that notices more than others do: an answer that is lost, one that comes twice, bytes behind the end."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, cast

from lepton_ai.loadgen.failures import RequestFailed
from lepton_ai.loadgen.http_parser import ResponseParser

TIMEOUT_S = 300.0


class Lost(Exception):
    """An answer did not come to its end, and is no answer of HTTP if the message says so."""


class Answer(NamedTuple):
    """What came, all of it."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Leave:
    """How a client leaves: while it is ``sending``, some seconds into ``waiting``, or after pieces in ``reading``."""

    while_: Literal["sending", "waiting", "reading"]
    after: float


class _Exchange:
    """One request under way. ``done`` is true for an answer that is whole, false for one that was left."""

    def __init__(self, num_pieces: float | None) -> None:
        self.parser = ResponseParser()
        self.body = bytearray()
        self.done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._num_pieces = num_pieces

    def feed(self, data: bytes) -> None:
        piece = self.parser.feed(data)
        self.body += piece
        if piece and self._num_pieces is not None:
            self._num_pieces -= 1
        if self.parser.is_complete:
            self.end(is_whole=True)
        elif self._num_pieces is not None and self._num_pieces <= 0:
            self.end(is_whole=False)

    def end(self, *, is_whole: bool) -> None:
        if not self.done.done():
            self.done.set_result(is_whole)

    def fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


class _Wire(asyncio.Protocol):
    """A connection. ``stray`` gets what comes and nobody asked for."""

    def __init__(self, stray: list[str]) -> None:
        self.transport: asyncio.Transport | None = None
        self.exchange: _Exchange | None = None
        self._stray = stray

    @property
    def is_open(self) -> bool:
        return self.transport is not None and not self.transport.is_closing()

    def abort(self) -> None:
        self.exchange = None
        if self.transport is not None:
            self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.exchange is None or self.exchange.parser.is_complete:
            self._stray.append(f"bytes behind the end of an answer: {data[:60]!r}")
            return
        try:
            self.exchange.feed(data)
        except RequestFailed as error:
            self.exchange.fail(Lost(f"no answer of HTTP: {error}"))

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if self.exchange is None:
            return
        if self.exchange.parser.end():
            self.exchange.end(is_whole=True)
            return
        when = "within its answer" if self.exchange.parser.has_begun else "before its answer"
        self.exchange.fail(Lost(f"the connection ended {when}"))


class Client:
    """Sends one request after another, on one connection for as long as the server keeps it."""

    def __init__(self, host: str, port: int, stray: list[str]) -> None:
        self._host, self._port = host, port
        self._stray = stray
        self._wire: _Wire | None = None

    async def ask(self, request: bytes, leave: Leave | None = None) -> Answer | None:
        """The answer, or None if the client has left. Raises Lost; nothing is ever sent twice."""
        wire = await self._connected()
        assert wire.transport is not None
        if leave is not None and leave.while_ == "sending":
            wire.transport.write(request[: len(request) // 2])
            await asyncio.sleep(leave.after)
            self._leave(wire)
            return None
        exchange = wire.exchange = _Exchange(leave.after if leave and leave.while_ == "reading" else None)
        wire.transport.write(request)
        patience_s = leave.after if leave and leave.while_ == "waiting" else TIMEOUT_S
        try:
            is_whole = await asyncio.wait_for(exchange.done, patience_s)
        except asyncio.TimeoutError:
            self._leave(wire)
            if leave is None:
                raise Lost(f"no end within {TIMEOUT_S:g} s") from None
            return None
        except BaseException:
            self._leave(wire)
            raise
        wire.exchange = None
        if not is_whole:
            self._leave(wire)
            return None
        if not exchange.parser.keeps_alive:
            self.close()
        return Answer(exchange.parser.status, exchange.parser.headers, bytes(exchange.body))

    def close(self) -> None:
        """Leave."""
        if self._wire is not None:
            self._leave(self._wire)

    def _leave(self, wire: _Wire) -> None:
        self._wire = None
        wire.abort()

    async def _connected(self) -> _Wire:
        if self._wire is None or not self._wire.is_open:
            loop = asyncio.get_running_loop()
            try:
                _, self._wire = await loop.create_connection(lambda: _Wire(self._stray), self._host, self._port)
            except OSError as error:
                raise Lost(f"no connection: {error.strerror or error}") from None
        return self._wire
