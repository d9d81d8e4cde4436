"""Connections to one server, kept and used again. An answer's bytes are handed on inside the event loop's own callback:
no task wakes for a piece of a stream, so that a load costs the machine little of what it measures."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Mapping
from typing import Protocol, cast

from lepton_ai.loadgen.address import Address
from lepton_ai.loadgen.failures import CannotConnect, Disconnected, RequestFailed, TimedOut
from lepton_ai.loadgen.http_parser import ResponseParser


class Receiver(Protocol):
    """Who takes an answer as it comes. What it raises of RequestFailed ends the request."""

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """The head has come."""

    def receive(self, body: bytes, now: float) -> None:
        """Some of the body has come; ``now`` by ``time.monotonic``."""


class _Exchange:
    """A request under way on a connection. The future ends when the answer has come, or cannot any more."""

    def __init__(self, receiver: Receiver, done: asyncio.Future[None]) -> None:
        self.parser = ResponseParser()
        self.done = done
        self._receiver = receiver
        self._has_head = False

    def feed(self, data: bytes, now: float) -> None:
        body = self.parser.feed(data)
        if not self._has_head:
            if not self.parser.status:
                return
            self._has_head = True
            self._receiver.begin(self.parser.status, self.parser.headers)
        if body:
            self._receiver.receive(body, now)


class _Connection(asyncio.Protocol):
    """One connection: a request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._exchange: _Exchange | None = None

    @property
    def is_open(self) -> bool:
        """Whether another request may be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def send(self, request: bytes, receiver: Receiver) -> asyncio.Future[None]:
        """Write a request. The future has what ended it badly, RequestFailed, if it did."""
        assert self._exchange is None and self._transport is not None, "a request at a time"
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._exchange = _Exchange(receiver, done)
        self._transport.write(request)
        return done

    def abort(self) -> None:
        """Close at once, whatever is under way."""
        self._exchange = None
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of asyncio."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Of asyncio."""
        now = time.monotonic()
        exchange = self._exchange
        if exchange is None:  # nobody asked
            self.abort()
            return
        try:
            exchange.feed(data, now)
        except RequestFailed as error:
            self._end(error)
            self.abort()
            return
        if exchange.parser.is_complete:
            self._end(None)
            if not exchange.parser.keeps_alive:
                self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Of asyncio; the end of what the server sends comes here too."""
        self._transport = None
        if self._exchange is None:
            return
        if self._exchange.parser.end():
            self._end(None)
            return
        has_begun = self._exchange.parser.has_begun
        what = "before its answer ended" if has_begun else "before it answered"
        self._end(Disconnected(f"the server closed the connection {what}", had_answer=has_begun))

    def _end(self, error: RequestFailed | None) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is None or exchange.done.done():
            return
        if error is None:
            exchange.done.set_result(None)
        else:
            exchange.done.set_exception(error)


class HttpClient:
    """Sends requests to one server, each on a connection of its own for as long as it lasts."""

    def __init__(self, address: Address, *, connect_timeout_s: float = 10.0) -> None:
        self._address = address
        self._ssl: ssl.SSLContext | None = address.ssl_context()
        self._connect_timeout_s = connect_timeout_s
        self._idle: list[_Connection] = []

    @property
    def num_idle(self) -> int:
        """Connections that wait for another request."""
        return sum(connection.is_open for connection in self._idle)

    async def send(self, request: bytes, receiver: Receiver, *, timeout_s: float) -> None:
        """Send a request as it stands on the wire; ``receiver`` gets the answer. Raises RequestFailed.

        A server may close an idle connection while a request is on its way. Such a request, of whose answer nothing
        came, is sent once more, on a new connection.
        """
        connection = self._take_idle()
        if connection is not None:
            try:
                return await self._send_on(connection, request, receiver, timeout_s=timeout_s)
            except Disconnected as error:
                if error.had_answer:
                    raise
        await self._send_on(await self._connect(), request, receiver, timeout_s=timeout_s)

    async def close(self) -> None:
        """Close the connections that are idle: all, when no request is under way."""
        while self._idle:
            self._idle.pop().abort()
        await asyncio.sleep(0)  # an aborted socket is closed by the next turn of the loop

    async def _send_on(self, connection: _Connection, request: bytes, receiver: Receiver, *, timeout_s: float) -> None:
        try:
            await asyncio.wait_for(connection.send(request, receiver), timeout_s)
        except asyncio.TimeoutError:
            connection.abort()
            raise TimedOut(f"the answer did not end within {timeout_s:g} s") from None
        except asyncio.CancelledError:
            connection.abort()
            raise
        if connection.is_open:
            self._idle.append(connection)

    def _take_idle(self) -> _Connection | None:
        """The one that was used last: a server closes those that are idle for long."""
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                return connection
        return None

    async def _connect(self) -> _Connection:
        address = self._address
        connecting = asyncio.get_running_loop().create_connection(
            _Connection, address.host, address.port, ssl=self._ssl
        )
        try:
            _, connection = await asyncio.wait_for(connecting, self._connect_timeout_s)
        except asyncio.TimeoutError:
            raise CannotConnect(f"{address.url}: no connection within {self._connect_timeout_s:g} s") from None
        except ssl.SSLCertVerificationError as error:
            raise CannotConnect(f"{address.url}: its certificate is not trusted: {error.verify_message}") from None
        except OSError as error:
            raise CannotConnect(f"{address.url}: {error.strerror or error}") from None
        return connection
