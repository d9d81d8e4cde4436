"""What is served: models, their tokens, and how the server is."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from lepton_ai.engine.prompts import encode_prompt
from lepton_ai.serve.http.body import JsonRoute
from lepton_ai.serve.http.errors import json_response
from lepton_ai.serve.protocol.embeddings import DetokenizeRequest, TokenizeRequest
from lepton_ai.serve.service import Service, service_of
from lepton_ai.version import __version__

router = APIRouter(route_class=JsonRoute)


@router.get("/v1/models")
async def models(request: Request) -> Response:
    """All of them."""
    service = service_of(request)
    return json_response({"object": "list", "data": [_model(service, name) for name in service.models]})


@router.get("/v1/models/{name:path}")
async def model(name: str, request: Request) -> Response:
    """One of them."""
    return json_response(_model(service_of(request), name))


@router.post("/tokenize")
async def tokenize(body: TokenizeRequest, request: Request) -> Response:
    """Cut a text into tokens."""
    model = service_of(request).one(body.model)
    ids = await model.encode(body.prompt, add_special_tokens=body.add_special_tokens)
    return json_response({"tokens": ids, "count": len(ids), "max_model_len": model.info.max_model_len})


@router.post("/detokenize")
async def detokenize(body: DetokenizeRequest, request: Request) -> Response:
    """Join tokens into a text."""
    model = service_of(request).one(body.model)
    ids = encode_prompt(body.tokens, model.tokenizer, name="tokens").tolist()
    return json_response({"prompt": await model.decode(ids)})


@router.get("/tokenizer_info")
async def tokenizer_info(request: Request, model: str | None = None) -> Response:
    """What programs that cut texts themselves, such as lm-evaluation-harness, ask of a model's tokenizer."""
    tokenizer = service_of(request).one(model).tokenizer
    special = {"bos_token": tokenizer.bos_id, "eos_token": tokenizer.eos_id}
    spelled = {name: None if id_ is None else tokenizer.token_bytes(id_).decode() for name, id_ in special.items()}
    return json_response(spelled | {"vocab_size": tokenizer.vocab_size})


@router.get("/health")
async def health() -> Response:
    """Whether the process answers."""
    return json_response({"status": "ok"})


@router.get("/version")
async def version() -> Response:
    """The version of Lepton."""
    return json_response({"version": __version__})


def _model(service: Service, name: str) -> dict[str, object]:
    info = service.model(name).info
    return {
        "id": name,
        "object": "model",
        "created": service.created,
        "owned_by": "lepton",
        "max_model_len": info.max_model_len,
    }
