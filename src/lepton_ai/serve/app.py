"""The application: routes over a service."""

from __future__ import annotations

import asyncio

from fastapi import FastAPI

from lepton_ai.serve.access.cors import Cors
from lepton_ai.serve.access.options import AccessOptions
from lepton_ai.serve.access.rate_limits import RateLimits
from lepton_ai.serve.http.access_log import AccessLog
from lepton_ai.serve.http.errors import add_handlers
from lepton_ai.serve.http.gate import Gate
from lepton_ai.serve.http.openapi import document_of
from lepton_ai.serve.http.recorder import Recorder
from lepton_ai.serve.life.door import Door
from lepton_ai.serve.metrics.http_meter import Metered
from lepton_ai.serve.metrics.monitor import Monitor
from lepton_ai.serve.routes import chat, completions, embeddings, metrics, models, ready
from lepton_ai.serve.server_limits import ServerLimits
from lepton_ai.serve.service import Service
from lepton_ai.version import __version__


def create_app(
    service: Service,
    access: AccessOptions,
    limits: ServerLimits,
    *,
    rate_limits: RateLimits | None = None,
    access_log: AccessLog | None = None,
    monitor: Monitor | None = None,
    has_metrics: bool = True,
) -> FastAPI:
    """An ASGI application that serves the models of ``service``, once they are loaded, to whom ``access`` lets in.

    ``monitor`` counts what it does; with ``has_metrics``, the application tells of it too.
    """
    app = FastAPI(title="Lepton", version=__version__, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.service = service
    app.state.monitor = monitor or Monitor(service)
    app.state.long_bodies = asyncio.Lock()
    for routes in (chat, completions, embeddings, models, ready, *((metrics,) if has_metrics else ())):
        app.router.routes.extend(routes.router.routes)  # a router within a router takes a while to find its way
    app.openapi = document_of(app, has_keys=access.keys is not None)  # type: ignore[method-assign]  # as its makers advise
    add_handlers(app)
    # The last is the outermost: browsers are told that they may ask, and read errors, before a key is needed.
    app.add_middleware(Door, life=service.life, request_timeout_s=limits.life.request_timeout_s)
    app.add_middleware(Gate, keys=access.keys, bounds=limits.bounds, limits=rate_limits or RateLimits())
    if access.cors_origins:
        app.add_middleware(Cors, origins=access.cors_origins)
    app.add_middleware(Recorder, log=access_log)
    app.add_middleware(Metered, meter=app.state.monitor.http)
    return app
