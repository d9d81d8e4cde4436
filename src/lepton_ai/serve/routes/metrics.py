"""``/metrics``, where it has no port of its own."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from lepton_ai.serve.access.scopes import METRICS_PATH
from lepton_ai.serve.metrics.monitor import Monitor

router = APIRouter()


@router.get(METRICS_PATH)
async def metrics(request: Request) -> Response:
    """What the server is doing, for Prometheus."""
    monitor = request.app.state.monitor
    assert isinstance(monitor, Monitor)
    return await monitor.scrape(request)
