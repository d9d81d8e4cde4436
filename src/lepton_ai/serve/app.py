"""The application: routes over a service."""

from __future__ import annotations

from fastapi import FastAPI

from lepton_ai.serve.access import KeyRing
from lepton_ai.serve.errors import add_handlers
from lepton_ai.serve.gate import Gate
from lepton_ai.serve.routes import chat, completions, embeddings, models
from lepton_ai.serve.service import Service
from lepton_ai.version import __version__

MAX_BODY_BYTES = 4 << 20


def create_app(service: Service, keys: KeyRing | None, *, max_body_bytes: int = MAX_BODY_BYTES) -> FastAPI:
    """An ASGI application that serves the models of ``service``, which are loaded, to who has one of ``keys``.

    None serves everyone.
    """
    app = FastAPI(title="Lepton", version=__version__, docs_url=None, redoc_url=None)
    app.state.service = service
    for routes in (chat, completions, embeddings, models):
        app.include_router(routes.router)
    add_handlers(app)
    app.add_middleware(Gate, keys=keys, max_body_bytes=max_body_bytes)
    return app
