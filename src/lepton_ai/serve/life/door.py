"""What a request passes before it reaches a route: is the server taking any, and until when is the answer wanted?"""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Receive, Scope, Send

from lepton_ai.serve.access.scopes import METRICS_PATH, OPEN_PATHS
from lepton_ai.serve.http.errors import error_response
from lepton_ai.serve.life.deadline import HEADER, Deadline
from lepton_ai.serve.life.state import Life

_HEADER = HEADER.encode("ascii")
_ALWAYS_OPEN = OPEN_PATHS | {METRICS_PATH, "/version"}


class Door:
    """ASGI middleware. Counts the requests that are answered, but for those about the server itself."""

    def __init__(self, app: ASGIApp, life: Life, request_timeout_s: float) -> None:
        self._app = app
        self._life = life
        self._request_timeout_s = request_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or refuse it. Raises InvalidRequest for a bad header."""
        if scope["type"] != "http" or scope["path"] in _ALWAYS_OPEN:
            return await self._app(scope, receive, send)
        if (refusal := self._life.refusal()) is not None:
            return await error_response(refusal, {"connection": "close"})(scope, receive, send)
        now = asyncio.get_running_loop().time()
        given = next((value.decode("latin-1") for name, value in scope["headers"] if name == _HEADER), None)
        scope["state"]["deadline"] = Deadline.of_header(given, now=now, most_s=self._request_timeout_s)
        with self._life.request():
            await self._app(scope, receive, send)
