"""What is counted of requests over HTTP, whatever they ask for."""

from __future__ import annotations

from collections import Counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lepton_ai.serve.access.scopes import METRICS_PATH
from lepton_ai.serve.http.errors import refusal_in

_NO_ROUTE = "none"
_CLIENT_LEFT, _FAILED = 499, 500


class HttpMeter:
    """``answered`` counts by route and status, ``refused`` by code and status. Routes are those that there are.

    ``num_in_flight`` are under way, streams until their end, scrapes left out.
    """

    def __init__(self) -> None:
        self.num_in_flight = 0
        self.answered: Counter[tuple[str, int]] = Counter()
        self.refused: Counter[tuple[str, int]] = Counter()

    def count(self, scope: Scope, status: int) -> None:
        """A request has ended."""
        route = getattr(scope.get("route"), "path", _NO_ROUTE)
        self.answered[route, status] += 1
        if status >= 400:
            self.refused[refusal_in(scope) or "internal_error", status] += 1


class Metered:
    """ASGI middleware around all others."""

    def __init__(self, app: ASGIApp, meter: HttpMeter) -> None:
        self._app = app
        self._meter = meter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count a request while and when it is answered."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        scope.setdefault("state", {})
        status = _CLIENT_LEFT

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        weight = int(scope["path"] != METRICS_PATH)
        self._meter.num_in_flight += weight
        try:
            await self._app(scope, receive, send_and_note)
        except Exception:
            status = _FAILED
            raise
        finally:
            self._meter.num_in_flight -= weight
            self._meter.count(scope, status)
