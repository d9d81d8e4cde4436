"""The application: routes over a service."""

from __future__ import annotations

from fastapi import FastAPI

from lepton_ai.serve.access import KeyRing
from lepton_ai.serve.errors import add_handlers
from lepton_ai.serve.gate import Gate
from lepton_ai.serve.life.door import Door
from lepton_ai.serve.life.options import LifeOptions
from lepton_ai.serve.metrics.http_meter import Metered
from lepton_ai.serve.metrics.monitor import Monitor
from lepton_ai.serve.routes import chat, completions, embeddings, metrics, models, ready
from lepton_ai.serve.service import Service
from lepton_ai.version import __version__

MAX_BODY_BYTES = 4 << 20


def create_app(
    service: Service,
    keys: KeyRing | None,
    life: LifeOptions | None = None,
    *,
    max_body_bytes: int = MAX_BODY_BYTES,
    monitor: Monitor | None = None,
    has_metrics: bool = True,
) -> FastAPI:
    """An ASGI application that serves the models of ``service``, once they are loaded, to who has one of ``keys``.

    None serves everyone. ``monitor`` counts what it does; with ``has_metrics``, the application tells of it too.
    """
    app = FastAPI(title="Lepton", version=__version__, docs_url=None, redoc_url=None)
    app.state.service = service
    for routes in (chat, completions, embeddings, models, ready):
        app.include_router(routes.router)
    app.state.monitor = monitor or Monitor(service)
    if has_metrics:
        app.include_router(metrics.router)
    add_handlers(app)
    app.add_middleware(Door, life=service.life, request_timeout_s=(life or LifeOptions()).request_timeout_s)
    app.add_middleware(Gate, keys=keys, max_body_bytes=max_body_bytes)
    app.add_middleware(Metered, meter=app.state.monitor.http)
    return app
