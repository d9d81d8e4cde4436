"""The bodies of requests: JSON, read within bounds.

A server has one thread for all connections, and reading JSON holds it up: what takes long to read is refused first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, get_type_hints

import jiter
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from lepton_ai.errors import InvalidRequest
from lepton_ai.serve.http.errors import ClientLeft, invalid_body

_MAX_PARTS = 100_000
"""Lists, objects and their fields: each takes a microsecond, numbers and texts a fiftieth of that."""

_LONG_BYTES = 64 << 10


class JsonRoute(APIRoute):
    """A route whose body is JSON as RFC 8259 has it; that it says so, and is whole, is seen to at the gate.

    UTF-8 without a mark in front, no NaN, no unpaired surrogate; and no name twice in an object, of which another
    reader could take the other one.

    A route with a body calls ``endpoint(body, request)`` itself: the framework would do no more than that, and take
    some tenths of a millisecond longer.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        if self.body_field is not None:
            self.app = _answering(endpoint, get_type_hints(endpoint)["body"])


def _answering(endpoint: Callable[[Any, Request], Awaitable[Response]], kind: type[BaseModel]) -> ASGIApp:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        content = await _read(request)
        try:
            body = kind.model_validate(content)
        except ValidationError as error:
            raise invalid_body(error.errors(include_url=False, include_input=False)) from None
        response = await endpoint(body, request)
        await response(scope, receive, send)

    return answer


async def _read(request: Request) -> object:
    message = await request.receive()
    if message["type"] != "http.request":
        raise ClientLeft("the client has left before its body was there")
    body = message["body"]
    if len(body) < _LONG_BYTES:
        return parse(body)
    async with request.app.state.long_bodies:  # one in each turn of the event loop
        content = parse(body)
        await asyncio.sleep(0)
        return content


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
