"""What is read again while the server runs: keys, certificates, and the name of the access log's file."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from lepton_ai.errors import InvalidRequest
from lepton_ai.serve.access.key_file import WatchedKeys
from lepton_ai.serve.access.options import AccessOptions
from lepton_ai.serve.http.access_log import AccessLog

_LOG = logging.getLogger("lepton_ai.serve")


@asynccontextmanager
async def upkeep(access: AccessOptions, access_log: AccessLog | None) -> AsyncIterator[None]:
    """In it, a file of keys is read again when it changes, and all of them on SIGHUP. For the main thread alone.

    A SIGHUP that says that the terminal is gone is an end, as for other programs.
    """
    loop = asyncio.get_running_loop()
    had_terminal = os.isatty(0)
    tasks: set[asyncio.Future[None]] = set()

    def on_hangup() -> None:
        if had_terminal and not os.isatty(0):
            return os.kill(os.getpid(), signal.SIGTERM)
        task = asyncio.ensure_future(asyncio.to_thread(_reload, access, access_log))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    loop.add_signal_handler(signal.SIGHUP, on_hangup)
    if isinstance(access.keys, WatchedKeys):
        tasks.add(asyncio.ensure_future(access.keys.watch()))
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
        for task in tuple(tasks):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


def _reload(access: AccessOptions, access_log: AccessLog | None) -> None:
    if isinstance(access.keys, WatchedKeys):
        access.keys.reload()
    if access_log is not None:
        access_log.reopen()
    if access.tls is not None:
        try:
            access.tls.reload()
            _LOG.info("certificates are reloaded")
        except InvalidRequest as error:
            _LOG.error("certificates are not reloaded, those from before stay: %s", error.message)
