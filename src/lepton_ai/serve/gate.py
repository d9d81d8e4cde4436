"""What every request passes first: an id, a key, and a bound on its size."""

from __future__ import annotations

import secrets

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lepton_ai.errors import LeptonError
from lepton_ai.serve.access import KeyRing, headers_of, needs_key
from lepton_ai.serve.errors import error_response


class TooLarge(LeptonError):
    """A body is larger than the server takes."""

    status, code = 413, "body_too_large"


class Gate:
    """ASGI middleware. ``keys`` None lets everyone in. A request that has an ``x-request-id`` keeps it."""

    def __init__(self, app: ASGIApp, keys: KeyRing | None, max_body_bytes: int) -> None:
        self._app = app
        self._keys = keys
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers = headers_of(scope["headers"])
        request_id = headers.get("x-request-id", "")
        if not (request_id.isascii() and request_id.isprintable() and 0 < len(request_id) <= 128):
            request_id = f"req-{secrets.token_hex(12)}"

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [*message.get("headers", []), (b"x-request-id", request_id.encode("ascii"))]
                message = {**message, "headers": added}
            await send(message)

        try:
            state = scope.setdefault("state", {})
            state["request_id"] = request_id
            if self._keys is not None and needs_key(scope["path"]):
                state["tenant"] = self._keys.owner(headers.get("authorization"))
            body = await self._read_body(headers.get("content-length"), receive)
            await self._app(scope, _replay(body, receive), send_with_id)
        except LeptonError as error:
            more = {"www-authenticate": "Bearer"} if error.status == 401 else {}
            await error_response(error, more)(scope, receive, send_with_id)

    async def _read_body(self, length: str | None, receive: Receive) -> Message:
        """The whole body as one message, or that the client has left. Raises TooLarge as soon as that is clear."""
        if length is not None and length.isdigit() and int(length) > self._max_body_bytes:
            raise TooLarge(f"body: expected at most {self._max_body_bytes} bytes, got {length[:20]}")
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return message
            body += message.get("body", b"")
            if len(body) > self._max_body_bytes:
                raise TooLarge(f"body: expected at most {self._max_body_bytes} bytes, got more")
            if not message.get("more_body", False):
                return {"type": "http.request", "body": bytes(body), "more_body": False}


def _replay(first: Message, receive: Receive) -> Receive:
    """Gives ``first``, then what comes."""
    waiting = [first]

    async def receive_again() -> Message:
        return waiting.pop() if waiting else await receive()

    return receive_again
