"""``/ready``: for who sends requests here, or to another server."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from lepton_ai.serve.http.errors import json_response
from lepton_ai.serve.service import service_of

router = APIRouter()


@router.get("/ready")
async def ready(request: Request) -> Response:
    """Whether work is taken: 200 and the models, or 503 and why not. Needs no key."""
    service = service_of(request)
    content = {"status": service.life.phase.value, "models": list(service.models)}
    return json_response(content, status=200 if service.life.is_ready else 503)
