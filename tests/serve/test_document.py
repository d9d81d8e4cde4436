"""``/openapi.json``: what it says of requests, answers and keys is so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import httpx
import jsonschema
import pytest
from fastapi.routing import APIRoute
from tests.engine.published import SENTENCE_FILES, published_bert, write_files
from tests.engine.tiny_gguf import tiny_gguf
from tests.serve.running import Running, app_without_models, running

from lepton_ai.engine.request_options import RequestOptions
from lepton_ai.engine.sampling_params import SamplingParams
from lepton_ai.errors import InvalidRequest
from lepton_ai.serve.access import Key, KeyRing, digest, new_secret
from lepton_ai.serve.http.openapi import _BOUNDS

SECRET = new_secret()
MESSAGES = [{"role": "user", "content": "hello"}]
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"

ASKED: list[tuple[str, dict[str, Any]]] = [
    (CHAT, {"messages": MESSAGES, "max_tokens": 3}),
    (CHAT, {"messages": MESSAGES, "max_tokens": 3, "n": 2, "logprobs": True, "top_logprobs": 2}),
    (TEXT, {"prompt": "a", "max_tokens": 3}),
    (TEXT, {"prompt": ["a", "b"], "max_tokens": 3, "n": 2, "logprobs": 2, "echo": True}),
    (TEXT, {"prompt": "abc", "max_tokens": 0, "logprobs": 2, "echo": True}),
    ("/tokenize", {"prompt": "a"}),
    ("/detokenize", {"tokens": [97]}),
    ("/v1/embeddings", {"input": "who", "model": "bert"}),
    ("/v1/embeddings", {"input": ["who", "plays"], "model": "bert", "encoding_format": "base64"}),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("document")
    encoder = write_files(folder / "bert", published_bert() | SENTENCE_FILES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEPTON_HOME", str(folder / "home"))
        models = {"tiny": tiny_gguf(folder / "tiny.gguf"), "bert": encoder}
        with running(models, KeyRing([Key("me", digest(SECRET))])) as made:
            yield made


@pytest.fixture(scope="module")
def http(server: Running) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {SECRET}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def document(http: httpx.Client) -> dict[str, Any]:
    return dict(http.get("/openapi.json").json())


def closed(document: dict[str, Any], schema: dict[str, Any]) -> jsonschema.Draft202012Validator:
    """A validator that takes no field which is not described."""
    components = deepcopy(document["components"])
    for described in components["schemas"].values():
        if "properties" in described:
            described["additionalProperties"] = False
    return jsonschema.Draft202012Validator({"components": components, **schema})


def answer_schema(document: dict[str, Any], path: str, status: str = "200") -> dict[str, Any]:
    (operation,) = document["paths"][path].values()
    return dict(operation["responses"][status]["content"]["application/json"]["schema"])


@pytest.mark.parametrize(("path", "body"), ASKED, ids=str)
def test_answers_have_the_documented_shape(
    http: httpx.Client, document: dict[str, Any], path: str, body: dict[str, Any]
) -> None:
    answer = http.post(path, json={"model": "tiny"} | body)
    assert answer.status_code == 200, answer.text
    closed(document, answer_schema(document, path)).validate(answer.json())


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/{name}", "/health", "/version"])
def test_what_is_asked_for_without_a_body(http: httpx.Client, document: dict[str, Any], path: str) -> None:
    closed(document, answer_schema(document, path)).validate(http.get(path.replace("{name}", "tiny")).json())


@pytest.mark.parametrize(("path", "body"), [a for a in ASKED if a[0] in (CHAT, TEXT)], ids=str)
def test_events_have_the_documented_shape(
    http: httpx.Client, document: dict[str, Any], path: str, body: dict[str, Any]
) -> None:
    more = {"model": "tiny", "stream": True, "stream_options": {"include_usage": True}}
    answer = http.post(path, json=body | more)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    described = document["paths"][path]["post"]["responses"]["200"]["content"]["text/event-stream"]["itemSchema"]
    done, piece = described["properties"]["data"]["anyOf"]
    assert done == {"const": "[DONE]"}
    validator = closed(document, piece["contentSchema"]["anyOf"][0])
    *events, last, end = answer.text.split("\n\n")
    assert (last, end) == ("data: [DONE]", "") and len(events) >= 2
    for event in events:
        validator.validate(json.loads(event.removeprefix("data: ")))


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("POST", CHAT, 400), ("GET", "/v1/models/none", 404), ("GET", "/none", 404), ("GET", CHAT, 405)],
)
def test_errors_have_the_documented_shape(
    http: httpx.Client, document: dict[str, Any], method: str, path: str, status: int
) -> None:
    body = {"model": "tiny"} if method == "POST" else None
    for headers, wanted in ((http.headers, status), ({"authorization": "Bearer no"}, 401)):
        answer = http.request(method, path, json=body, headers=headers)
        assert answer.status_code == wanted and answer.headers["content-type"] == "application/json"
        closed(document, answer_schema(document, CHAT, "4XX")).validate(answer.json())
        assert answer_schema(document, CHAT, "5XX") == answer_schema(document, CHAT, "4XX")


def test_every_route_is_described(document: dict[str, Any]) -> None:
    """A route without a schema of its answer needs a line in ``_ANSWERS`` of ``serve/http/openapi.py``."""
    routes = {r.path.replace(":path", "") for r in app_without_models().routes if isinstance(r, APIRoute)}
    assert routes <= document["paths"].keys()
    for path, operations in document["paths"].items():
        for operation in operations.values():
            content = operation["responses"]["200"]["content"]
            assert content and all(kind.get("schema") or kind["itemSchema"] for kind in content.values()), path
            more = {"503"} if path == "/ready" else set()
            assert operation["responses"].keys() == {"200", "4XX", "5XX"} | more, path


def test_requests_are_closed(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    requests = [name for name in schemas if name.endswith("Request")]
    assert len(requests) >= 5
    for name in (*requests, "ChatMessage", "ContentPart", "StreamOptions", "ResponseFormat", "JsonSchema"):
        assert schemas[name]["additionalProperties"] is False, name
    assert schemas["ChatRequest"]["properties"]["store"] == {
        "type": "null",
        "description": "Not supported, as nothing is stored.",
    }


def test_what_needs_a_key(document: dict[str, Any]) -> None:
    assert document["components"]["securitySchemes"] == {"key": {"type": "http", "scheme": "bearer"}}
    assert document["security"] == [{"key": []}]
    open_paths = {
        path for path, operations in document["paths"].items() for o in operations.values() if "security" in o
    }
    assert "/health" in open_paths and "/v1/models" not in open_paths
    without_keys = app_without_models().openapi()
    assert "security" not in without_keys and "securitySchemes" not in without_keys["components"]


@pytest.mark.parametrize("name", [name for name in _BOUNDS if hasattr(SamplingParams, name) or name == "priority"])
def test_bounds_are_those_that_are_checked(name: str) -> None:
    def is_taken(value: float) -> bool:
        more = {"prompt_logprobs": 0} if name == "max_tokens" and value == 0 else {}
        try:
            if name == "priority":
                RequestOptions(priority=int(value))
            else:
                SamplingParams(**{name: value}, **more)  # type: ignore[arg-type]
        except InvalidRequest:
            return False
        return True

    bounds = _BOUNDS[name]
    step = 1 if isinstance(getattr(SamplingParams(), name, 0), int | None) else 1e-9
    if "exclusiveMinimum" in bounds:
        assert not is_taken(bounds["exclusiveMinimum"]) and is_taken(bounds["exclusiveMinimum"] + 1e-9)
    else:
        assert is_taken(bounds["minimum"]) and not is_taken(bounds["minimum"] - step)
    assert is_taken(bounds["maximum"]) and not is_taken(bounds["maximum"] + step)
