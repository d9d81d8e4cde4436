"""Server-sent events: an answer that comes piece by piece, for as long as somebody reads it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from lepton_ai.errors import LeptonError
from lepton_ai.serve.http.errors import error_body
from lepton_ai.serve.protocol.events import event

_PIECES = "send_piece"
_PING = b": ping\n\n"
_PING_S = 15.0
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


async def until_left(receive: Receive) -> None:
    """Wait until the client of a request, whose body was read, has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


def send_pieces_by(send: Send, scope: Scope) -> None:
    """Have the pieces of an answer sent by ``send``, past all that its beginning and its end go through."""
    scope["state"][_PIECES] = send


class EventStream(Response):
    """Sends what ``events`` yields. A comment now and then tells proxies that a long prompt is not a dead connection.

    If the reader leaves, ``leave`` is called, and ``events`` is expected to end soon. An error of ours in it becomes
    its last event, as the status is sent.
    """

    def __init__(self, events: AsyncGenerator[bytes, None], leave: Callable[[], None]) -> None:
        super().__init__()
        self._events = events
        self._leave = leave
        self._is_quiet = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the end of the events."""
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        send_piece = scope.get("state", {}).get(_PIECES, send)
        # Tasks for the whole stream: waiting for one of several things takes several for each event. And what is woken
        # for each has a few calls to return through then, where this one has all that is around a route.
        sending = asyncio.ensure_future(self._send_events(send_piece))
        beside = [asyncio.ensure_future(work) for work in (self._wait_for_leave(receive), self._ping(send_piece))]
        try:
            await sending
        finally:
            for task in beside:
                task.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_events(self, send_piece: Send) -> None:
        try:
            async with aclosing(self._events):
                async for body in self._events:
                    self._is_quiet = False
                    await send_piece({"type": "http.response.body", "body": body, "more_body": True})
        except LeptonError as error:
            await send_piece({"type": "http.response.body", "body": event(error_body(error)), "more_body": True})

    async def _wait_for_leave(self, receive: Receive) -> None:
        await until_left(receive)
        self._leave()

    async def _ping(self, send_piece: Send) -> None:
        while True:
            self._is_quiet = True
            await asyncio.sleep(_PING_S)
            if self._is_quiet:
                await send_piece({"type": "http.response.body", "body": _PING, "more_body": True})
