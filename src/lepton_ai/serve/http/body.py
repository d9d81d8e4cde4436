"""The bodies of requests: JSON, read within bounds.

A server has one thread for all connections, and reading JSON holds it up: what takes long to read is refused first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import jiter
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from lepton_ai.errors import InvalidRequest
from lepton_ai.serve.http.errors import ClientLeft

_MAX_PARTS = 100_000
"""Lists, objects and their fields: each takes a microsecond, numbers and texts a fiftieth of that."""

_LONG_BYTES = 64 << 10


class JsonRoute(APIRoute):
    """A route whose body is JSON as RFC 8259 has it; that it says so is checked at the gate.

    UTF-8 without a mark in front, no NaN, no unpaired surrogate; and no name twice in an object, of which another
    reader could take the other one.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """What answers a request; the framework calls this."""
        handle = super().get_route_handler()

        async def handle_json(request: Request) -> Response:
            if request.method != "POST":
                return await handle(request)
            read = _ReadRequest(request.scope, request.receive)
            length = request.headers.get("content-length", "")
            if length.isdecimal() and int(length) < _LONG_BYTES:
                read.content = parse(await _body_of(read))
            else:
                async with request.app.state.long_bodies:  # one in each turn of the event loop
                    read.content = parse(await _body_of(read))
                    await asyncio.sleep(0)
            return await handle(read)

        return handle_json


class _ReadRequest(Request):
    """A request whose body was read."""

    content: object = None

    async def json(self) -> object:
        return self.content


async def _body_of(request: Request) -> bytes:
    try:
        return await request.body()
    except ClientDisconnect:
        raise ClientLeft("the client has left before its body was there") from None


def parse(body: bytes) -> object:
    """The value of a JSON text. Raises InvalidRequest."""
    num_parts = _count_parts(body)
    if num_parts > _MAX_PARTS:
        num_parts = _count_parts(_outside_strings(body))
    if num_parts > _MAX_PARTS:
        raise InvalidRequest(f"body: expected at most {_MAX_PARTS} lists, objects and fields, got {num_parts}")
    try:
        return jiter.from_json(body, allow_inf_nan=False, catch_duplicate_keys=True)
    except ValueError as error:
        raise InvalidRequest(f"body: expected JSON, got what is none: {str(error)[-200:]}") from None


def _count_parts(body: bytes) -> int:
    return body.count(b"[") + body.count(b"{") + body.count(b":")


def _outside_strings(body: bytes) -> bytes:
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    return b"".join(plain.split(b'"')[::2])
