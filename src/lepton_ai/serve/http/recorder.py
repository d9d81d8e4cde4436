"""What surrounds every request: an id, a tally, and a line of the access log."""

from __future__ import annotations

import secrets
import time
from collections.abc import MutableMapping
from datetime import datetime, timezone
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lepton_ai.serve.http.access_log import AccessLog
from lepton_ai.serve.http.tally import Tally

_MAX_PATH = 256


class Recorder:
    """ASGI middleware, the outermost. A request that has an ``x-request-id`` that can be printed keeps it.

    It leaves ``request_id`` and ``tally`` in the request's state; the gate adds ``tenant``, the name of its key.
    """

    def __init__(self, app: ASGIApp, log: AccessLog | None) -> None:
        self._app = app
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, and write down what became of it, also if it is cancelled."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        state = scope.setdefault("state", {})
        request_id = state["request_id"] = _request_id(scope)
        state["tally"] = Tally()
        answer = _Answer()

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                added = [*message.get("headers", []), (b"x-request-id", request_id.encode("ascii"))]
                message = {**message, "headers": added}
            else:
                answer.is_complete = not message.get("more_body", False)
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            if self._log is not None:
                self._log.write(answer.entry(scope))


class _Answer:
    """What is known of an answer while it is sent."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.is_complete = False
        self._started_at = time.monotonic()

    def entry(self, scope: MutableMapping[str, Any]) -> dict[str, object]:
        """What stands in the access log: nothing of the request's query, headers and body."""
        state, client = scope["state"], scope.get("client")
        tally: Tally = state["tally"]
        return {
            "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
            "request_id": state["request_id"],
            "client": client[0] if client else None,
            "key": state.get("tenant"),
            "method": scope["method"],
            "path": scope["path"][:_MAX_PATH],
            "status": self.status,
            "is_complete": self.is_complete,
            "duration_ms": round((time.monotonic() - self._started_at) * 1000, 3),
            "model": tally.model,
            "stream": tally.is_streamed,
            "prompt_tokens": tally.num_prompt_tokens,
            "completion_tokens": tally.num_completion_tokens,
        }


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            given: str = value.decode("latin-1")
            if given.isascii() and given.isprintable() and 0 < len(given) <= 128:
                return given
    return f"req-{secrets.token_hex(12)}"
