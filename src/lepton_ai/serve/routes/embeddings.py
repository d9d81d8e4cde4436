"""``/v1/embeddings``."""

from __future__ import annotations

import base64

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from lepton_ai.errors import InvalidRequest
from lepton_ai.serve.errors import json_response
from lepton_ai.serve.protocol.embeddings import EmbeddingRequest
from lepton_ai.serve.service import service_of, while_connected

router = APIRouter()


@router.post("/v1/embeddings")
async def embeddings(body: EmbeddingRequest, request: Request) -> Response:
    """Turn texts into vectors, as lists of numbers or as the base64 of little-endian f32."""
    service = service_of(request)
    model = service.model(body.model)
    texts = body.texts
    caller = service.caller(request, user=body.user)
    caller.tally.begin(body.model)
    vectors = await while_connected(request, model.embed(texts, caller))
    if body.dimensions is not None and body.dimensions != vectors.shape[1]:
        raise InvalidRequest(
            f"dimensions: expected {vectors.shape[1]}, all that the model has, got {body.dimensions}",
            param="dimensions",
        )
    is_base64 = body.encoding_format == "base64"
    rows = [base64.b64encode(row.astype("<f4")).decode() if is_base64 else row.tolist() for row in vectors]
    num_tokens = caller.tally.num_prompt_tokens
    data = [{"object": "embedding", "index": i, "embedding": row} for i, row in enumerate(rows)]
    usage = {"prompt_tokens": num_tokens, "total_tokens": num_tokens}
    return json_response({"object": "list", "data": data, "model": body.model, "usage": usage})
