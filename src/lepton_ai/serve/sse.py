"""Server-sent events: an answer that comes piece by piece, for as long as somebody reads it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from lepton_ai.errors import LeptonError
from lepton_ai.serve.errors import error_object

DONE = b"data: [DONE]\n\n"

_PING = b": ping\n\n"
_PING_S = 15.0
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


def event(content: object) -> bytes:
    """One event that holds JSON."""
    return b"data: " + msgspec.json.encode(content) + b"\n\n"


class EventStream(Response):
    """Sends what ``events`` yields. A comment now and then tells proxies that a long prompt is not a dead connection.

    If the reader leaves, ``events`` is closed. An error of ours in it becomes its last event, as the status is sent.
    """

    def __init__(self, events: AsyncGenerator[bytes, None]) -> None:
        super().__init__()
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the end, or until the reader has left."""
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        leaving = asyncio.ensure_future(_disconnect(receive))
        try:
            async with aclosing(self._events):
                await self._send_events(send, leaving)
        finally:
            leaving.cancel()

    async def _send_events(self, send: Send, leaving: asyncio.Future[None]) -> None:
        while True:
            step = asyncio.ensure_future(self._next())
            while True:
                done, _ = await asyncio.wait((step, leaving), timeout=_PING_S, return_when=asyncio.FIRST_COMPLETED)
                if done:
                    break
                await send({"type": "http.response.body", "body": _PING, "more_body": True})
            if step not in done:
                step.cancel()
                await asyncio.wait((step,))
                return
            body = step.result()
            await send({"type": "http.response.body", "body": body or b"", "more_body": body is not None})
            if body is None:
                return

    async def _next(self) -> bytes | None:
        try:
            return await anext(self._events, None)
        except LeptonError as error:
            return event(error_object(error))


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
