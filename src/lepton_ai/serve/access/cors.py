"""Pages of other sites, which browsers let use the server if it says so."""

from __future__ import annotations

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from lepton_ai.serve.access.rate_limits import RATE_HEADERS

_METHODS = ("GET", "POST", "DELETE")
_EXPOSED = ("x-request-id", "retry-after", *RATE_HEADERS)


class Cors(CORSMiddleware):
    """ASGI middleware that lets pages of ``origins`` in. It stands before keys are asked for: a browser's question
    whether it may ask has none, and errors must be readable too. Browsers send no cookies along.
    """

    def __init__(self, app: ASGIApp, origins: tuple[str, ...]) -> None:
        super().__init__(
            app, allow_origins=origins, allow_methods=_METHODS, allow_headers=("*",), expose_headers=_EXPOSED
        )
