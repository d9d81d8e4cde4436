"""Errors as the original's clients read them: ``{"error": {"message", "type", "param", "code"}}``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from lepton_ai.errors import EngineDied, InvalidRequest, LeptonError, Overloaded

_CODE = "error_code"
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
_MAX_MESSAGE = 1000
"""Characters: what came may be quoted in it, and may be long."""

_HTTP_CODES = {404: "not_found", 405: "method_not_allowed"}


class ClientLeft(LeptonError):
    """Nobody waits for the answer any more; nobody reads this."""

    status, code = 499, "client_left"


def error_object(error: LeptonError) -> dict[str, dict[str, object]]:
    """The body of an answer, or an event in a stream."""
    kind = _TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "server_error")
    message = error.message if len(error.message) <= _MAX_MESSAGE else error.message[:_MAX_MESSAGE] + "..."
    return {"error": {"message": message, "type": kind, "param": error.param, "code": error.code}}


def error_body(error: LeptonError) -> bytes:
    """The body of an answer, as bytes."""
    return msgspec.json.encode(error_object(error))


def error_response(error: LeptonError, headers: Mapping[str, str] | None = None) -> Response:
    """An answer with the error's status, and when to come again where that may help; ``refusal_in`` knows its code."""
    return _Refusal(error, {**_when_to_retry(error), **(headers or {})})


def refusal_in(scope: Scope) -> str | None:
    """The code of the error that a request was answered with, for who counts or logs it."""
    code = scope.get("state", {}).get(_CODE)
    return code if isinstance(code, str) else None


def _when_to_retry(error: LeptonError) -> Mapping[str, str]:
    match error:
        case Overloaded():
            return {"retry-after": str(error.retry_after_s)}
        case EngineDied():
            return {"retry-after": "1"}
        case _:
            return {}


def json_response(content: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer in JSON."""
    body = msgspec.json.encode(content)
    return Response(body, status_code=status, media_type="application/json", headers=dict(headers or {}))


class _Refusal(Response):
    def __init__(self, error: LeptonError, headers: Mapping[str, str] | None) -> None:
        super().__init__(
            msgspec.json.encode(error_object(error)),
            status_code=error.status,
            media_type="application/json",
            headers=dict(headers or {}),
        )
        self._code = error.code

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {})[_CODE] = self._code
        await super().__call__(scope, receive, send)


def add_handlers(app: FastAPI) -> None:
    """Answer every error in this form."""
    app.add_exception_handler(LeptonError, _on_ours)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)


async def _on_ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, LeptonError)
    return error_response(error)


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return error_response(invalid_body(error.errors()))


async def _on_http(request: Request, error: Exception) -> Response:
    """What the framework refuses: no such route, a method that a route does not have."""
    assert isinstance(error, HTTPException)
    made = LeptonError(f"{request.method} {request.scope['path']!r:.80}: {error.detail}")
    made.status, made.code = error.status_code, _HTTP_CODES.get(error.status_code, "http_error")
    return error_response(made, error.headers)


def invalid_body(problems: Sequence[Mapping[str, Any]]) -> InvalidRequest:
    """The first problem, by the name of its field. What came is not repeated: it may be long, or secret."""
    first = problems[0]
    place = [str(part) for part in first["loc"] if part != "body" and not str(part).startswith("(")]
    if first["type"] in ("unknown", "unsupported"):
        name = ".".join([*place, first["ctx"]["name"]])
        is_known = first["type"] == "unsupported"
        problem = f"not supported, as {first['ctx']['reason']}" if is_known else "expected no such field"
        return InvalidRequest(f"{name}: {problem}", param=name)
    name = ".".join(place) or "body"
    if first["type"] == "missing":
        return InvalidRequest(f"{name}: expected a value, got none", param=name)
    return InvalidRequest(f"{name}: {first['msg']}", param=name)
