"""What runs beside the server to watch it: a port for its metrics, and a line about its engines now and then."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass

import uvicorn

from lepton_ai.errors import InvalidRequest
from lepton_ai.serve.access.scopes import METRICS_PATH
from lepton_ai.serve.metrics.monitor import Monitor
from lepton_ai.serve.metrics.stats_log import StatsLog


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitoringOptions:
    """Where metrics are served to whoever asks: at ``host`` and ``port``, and nowhere else; None: at the server's own
    port, to who may. ``log_every_s`` writes a line about each engine that often, with ``tell``; None: never.

    Raises InvalidRequest for an interval that is not positive.
    """

    host: str = "127.0.0.1"
    port: int | None = None
    log_every_s: float | None = None
    tell: Callable[[str], None] = print

    def __post_init__(self) -> None:
        if self.log_every_s is not None and not 0 < self.log_every_s < float("inf"):
            raise InvalidRequest(
                f"log_every_s: expected a positive number of seconds, got {self.log_every_s}", param="log_every_s"
            )


@asynccontextmanager
async def monitoring(monitor: Monitor, options: MonitoringOptions) -> AsyncIterator[None]:
    """Watch a server for the length of a ``with`` block. Raises InvalidRequest for a port that cannot be had."""
    logging = asyncio.create_task(_log(monitor, options))
    try:
        if options.port is None:
            yield
        else:
            async with _port(monitor, options.host, options.port) as port:
                options.tell(f"metrics at http://{options.host}:{port}{METRICS_PATH}")
                yield
    finally:
        logging.cancel()
        with suppress(asyncio.CancelledError):
            await logging


@asynccontextmanager
async def _port(monitor: Monitor, host: str, port: int) -> AsyncIterator[int]:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family)
    except OSError as error:
        raise InvalidRequest(f"metrics_port: {host}:{port}: {error}", param="metrics_port") from None
    with listening:
        server = _ServerBeside(uvicorn.Config(monitor.app(), log_level="warning", server_header=False))
        task = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            await task


class _ServerBeside(uvicorn.Server):
    """Leaves signals to the server beside which it runs."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None of them."""
        yield


async def _log(monitor: Monitor, options: MonitoringOptions) -> None:
    if options.log_every_s is None:
        return
    watch = monitor.watch
    logs = {name: StatsLog(name, time.monotonic()) for name in monitor.generators}
    while True:
        await asyncio.sleep(options.log_every_s)
        await watch.refresh()
        for name, log in logs.items():
            line = log.line(time.monotonic(), watch.last[name] if watch.up[name] else None)
            if line is not None:
                options.tell(line)
