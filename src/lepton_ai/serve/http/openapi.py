"""The document of the interface: ``/openapi.json``.

Requests are described by the models that check them, answers by those of ``protocol.documented``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from lepton_ai.serve.access.scopes import METRICS_PATH, OPEN_PATHS
from lepton_ai.serve.protocol import documented
from lepton_ai.serve.protocol.base import RequestModel

Json = dict[str, Any]


class _Answer(NamedTuple):
    """What a route answers, whole, and the events of its streams."""

    whole: type[BaseModel]
    event: type[BaseModel] | None = None


_ANSWERS: Mapping[str, _Answer] = {
    "/v1/chat/completions": _Answer(documented.ChatCompletion, documented.ChatCompletionChunk),
    "/v1/completions": _Answer(documented.TextCompletion, documented.TextCompletion),
    "/v1/embeddings": _Answer(documented.EmbeddingList),
    "/v1/models": _Answer(documented.ModelList),
    "/v1/models/{name}": _Answer(documented.Model),
    "/tokenize": _Answer(documented.Tokens),
    "/detokenize": _Answer(documented.Detokenized),
    "/tokenizer_info": _Answer(documented.TokenizerInfo),
    "/health": _Answer(documented.Health),
    "/ready": _Answer(documented.Ready),
    "/version": _Answer(documented.Version),
}

_BOUNDS: Mapping[str, Json] = {
    "temperature": {"minimum": 0, "maximum": 100},
    "top_p": {"exclusiveMinimum": 0, "maximum": 1},
    "top_k": {"minimum": 0, "maximum": 2**31 - 1},
    "min_p": {"minimum": 0, "maximum": 1},
    "repetition_penalty": {"exclusiveMinimum": 0, "maximum": 100},
    "presence_penalty": {"minimum": -2, "maximum": 2},
    "frequency_penalty": {"minimum": -2, "maximum": 2},
    "seed": {"minimum": 0, "maximum": 2**64 - 1},
    "min_tokens": {"minimum": 0, "maximum": 2**31 - 1},
    "max_tokens": {"minimum": 0, "maximum": 2**31 - 1},
    "max_completion_tokens": {"minimum": 1, "maximum": 2**31 - 1},
    "n": {"minimum": 1, "maximum": 64},
    "best_of": {"minimum": 1, "maximum": 64},
    "logprobs": {"minimum": 0, "maximum": 20},
    "top_logprobs": {"minimum": 0, "maximum": 20},
    "priority": {"minimum": -100, "maximum": 100},
    "dimensions": {"minimum": 1},
}
"""Of fields that are numbers: what ``SamplingParams`` and ``RequestOptions`` check."""

_KEY = "key"
_SCHEMA = "#/components/schemas/"
_REQUEST_ID = {"description": "The request's own id, or a new one.", "schema": {"type": "string"}}


def document_of(app: FastAPI, *, has_keys: bool) -> Callable[[], Json]:
    """A function that gives the document of an application's routes, made when it is first asked for."""

    def document() -> Json:
        if app.openapi_schema is None:
            app.openapi_schema = _make(app, has_keys=has_keys)
        return app.openapi_schema

    return document


def _make(app: FastAPI, *, has_keys: bool) -> Json:
    made: Json = get_openapi(title=app.title, version=app.version, description=__doc__, routes=app.routes)
    for path, operations in made["paths"].items():
        for operation in operations.values():
            _complete(operation, _ANSWERS.get(path))
            if path == "/ready":
                operation["responses"]["503"] = {**operation["responses"]["200"], "description": "Not now, and why."}
            if path == METRICS_PATH:
                operation["responses"]["200"]["content"] = {"text/plain": {"schema": {"type": "string"}}}
            if has_keys and path in OPEN_PATHS:
                operation["security"] = []
    schemas = made["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):  # the framework's, which are not answered
        schemas.pop(name, None)
    kinds: list[type[BaseModel]] = [documented.Error, *(answer.whole for answer in _ANSWERS.values())]
    kinds += [answer.event for answer in _ANSWERS.values() if answer.event is not None]
    _, answers = models_json_schema([(kind, "serialization") for kind in kinds], ref_template=_SCHEMA + "{model}")
    schemas.update(answers["$defs"])
    for request in _subclasses(RequestModel):
        _describe(request, schemas.get(request.__name__))
    if has_keys:
        made["components"]["securitySchemes"] = {_KEY: {"type": "http", "scheme": "bearer"}}
        made["security"] = [{_KEY: []}]
    return made


def _complete(operation: Json, answer: _Answer | None) -> None:
    """The answers of a route."""
    operation["responses"].pop("422", None)
    content: Json = {}
    if answer is not None:
        content["application/json"] = {"schema": {"$ref": _SCHEMA + answer.whole.__name__}}
        if answer.event is not None:
            content["text/event-stream"] = {"itemSchema": _event_schema(answer.event)}
        operation["responses"]["200"] = {"description": "What was asked for.", "content": content}
    error = {"application/json": {"schema": {"$ref": _SCHEMA + documented.Error.__name__}}}
    operation["responses"]["4XX"] = {"description": "What is wrong with the request.", "content": error}
    operation["responses"]["5XX"] = {"description": "What is wrong with the server.", "content": error}
    for response in operation["responses"].values():
        response["headers"] = {"x-request-id": _REQUEST_ID}


def _event_schema(kind: type[BaseModel]) -> Json:
    """An event of a stream: a piece as JSON, an error, or the mark of its end. The form is OpenAPI 3.2's."""
    piece = {"anyOf": [{"$ref": _SCHEMA + kind.__name__}, {"$ref": _SCHEMA + documented.Error.__name__}]}
    data = {"anyOf": [{"const": "[DONE]"}, {"contentMediaType": "application/json", "contentSchema": piece}]}
    return {"type": "object", "properties": {"data": {"type": "string", **data}}, "required": ["data"]}


def _describe(request: type[RequestModel], schema: Json | None) -> None:
    """Bounds of numbers, and the fields of the original that may be null alone."""
    if schema is None:
        return
    properties = schema["properties"]
    for name, bounds in _BOUNDS.items():
        for form in properties.get(name, {}).get("anyOf", [properties.get(name, {})]):
            if form.get("type") in ("integer", "number"):
                form.update(bounds)
    for name, reason in request.unsupported.items():
        properties[name] = {"type": "null", "description": f"Not supported, as {reason}."}


def _subclasses(kind: type[RequestModel]) -> list[type[RequestModel]]:
    return [each for child in kind.__subclasses__() for each in (child, *_subclasses(child))]
