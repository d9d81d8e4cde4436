"""``/v1/embeddings``."""

from __future__ import annotations

import asyncio
import base64

import msgspec
import numpy as np
import numpy.typing as npt
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from lepton_ai.errors import InvalidRequest
from lepton_ai.serve.http.body import JsonRoute
from lepton_ai.serve.http.errors import json_response
from lepton_ai.serve.protocol.embeddings import EmbeddingRequest
from lepton_ai.serve.service import service_of, while_connected

router = APIRouter(route_class=JsonRoute)


@router.post("/v1/embeddings")
async def embeddings(body: EmbeddingRequest, request: Request) -> Response:
    """Turn texts into vectors, as lists of numbers or as the base64 of little-endian f32."""
    service = service_of(request)
    model = service.model(body.model)
    caller = service.caller(request, user=body.user)
    caller.tally.begin(body.model)
    try:
        vectors = await while_connected(request, model.embed(body.texts, caller))
    except InvalidRequest as error:  # which calls them ``texts``
        names = (error.message, error.param or "")
        message, param = (name.replace("texts", "input", 1) for name in names)
        raise type(error)(message, param=param) from None
    if body.dimensions is not None and body.dimensions != vectors.shape[1]:
        raise InvalidRequest(
            f"dimensions: expected {vectors.shape[1]}, all that the model has, got {body.dimensions}",
            param="dimensions",
        )
    data = await asyncio.to_thread(_entries, vectors, is_base64=body.encoding_format == "base64")
    num_tokens = caller.tally.num_prompt_tokens
    usage = {"prompt_tokens": num_tokens, "total_tokens": num_tokens}
    return json_response({"object": "list", "data": data, "model": body.model, "usage": usage})


def _entries(vectors: npt.NDArray[np.float32], *, is_base64: bool) -> list[msgspec.Raw]:
    """A million numbers take long to write: one row after the other, between which other threads run."""
    rows = (base64.b64encode(row.astype("<f4")).decode() if is_base64 else row.tolist() for row in vectors)
    entries = ({"object": "embedding", "index": i, "embedding": row} for i, row in enumerate(rows))
    return [msgspec.Raw(msgspec.json.encode(entry)) for entry in entries]
