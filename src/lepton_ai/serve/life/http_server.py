"""uvicorn's server, led from outside: it opens sockets that are bound, and leaves signals alone."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Generator, Sequence
from contextlib import contextmanager

import uvicorn

_CLOSE_S = 1
"""For connections that end by themselves, once nothing is answered any more."""


class HttpServer(uvicorn.Server):
    """Serves in ``async with``."""

    def __init__(self, config: uvicorn.Config, sockets: Sequence[socket.socket]) -> None:
        config.timeout_graceful_shutdown = _CLOSE_S
        super().__init__(config)
        self._sockets = list(sockets)
        self._has_started = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """What a signal means is for others to say: see ``Shutdown``."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept connections."""
        await super().startup(sockets)
        self._has_started.set()

    async def wait_ended(self) -> None:
        """Wait until it has stopped by itself, and raise why."""
        assert self._task is not None
        await asyncio.shield(self._task)

    def drop_connections(self) -> None:
        """End all connections, whatever is left to be sent."""
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    async def __aenter__(self) -> HttpServer:
        self._task = asyncio.create_task(self.serve(self._sockets))
        started = asyncio.create_task(self._has_started.wait())
        await asyncio.wait((self._task, started), return_when=asyncio.FIRST_COMPLETED)
        started.cancel()
        if self._task.done():
            await self._task
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self.should_exit = True
        await self._task
