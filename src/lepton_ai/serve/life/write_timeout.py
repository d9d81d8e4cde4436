"""Drops clients who do not read what they asked for.

A transport tells its protocol to pause when the kernel takes no more, and to go on when it does; uvicorn's ``send``
waits meanwhile, and so does whoever makes the answer. Here a pause without progress ends the connection. For a client
who reads, nothing is done.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar, cast


class WriteTimeout(asyncio.Protocol):
    """A part of a protocol: see ``with_write_timeout``."""

    write_timeout_s: ClassVar[float]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Pause as soon as anything is unsent, so that no more than one message ever is."""
        super().connection_made(transport)
        self._writer = cast(asyncio.WriteTransport, transport)  # uvloop's is none by its type
        self._writer.set_write_buffer_limits(high=0)
        self._timer: asyncio.TimerHandle | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        """There is nothing to wait for any more."""
        self._stop()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The kernel takes no more: the client has so long to read some."""
        super().pause_writing()
        self._watch(self._writer.get_write_buffer_size())

    def resume_writing(self) -> None:
        """All is sent."""
        self._stop()
        super().resume_writing()

    def _watch(self, num_bytes: int) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self.write_timeout_s, self._check, num_bytes)

    def _check(self, num_bytes: int) -> None:
        left = self._writer.get_write_buffer_size()
        if left < num_bytes:
            self._watch(left)
        else:
            self._writer.abort()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def with_write_timeout(base: type[asyncio.Protocol], write_timeout_s: float) -> type[asyncio.Protocol]:
    """A protocol like ``base`` that drops a client who reads nothing for so long while something waits for it."""
    return type(base.__name__, (WriteTimeout, base), {"write_timeout_s": write_timeout_s})
