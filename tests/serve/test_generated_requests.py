"""Requests made from the served document, good and bad ones: answers are as documented, and none is a failure.

``LEPTON_TEST_REQUESTS`` says how many for each route and kind.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode, checks
from tests.engine.published import SENTENCE_FILES, published_bert, write_files
from tests.engine.tiny_gguf import tiny_gguf
from tests.serve.running import Running, app_without_models, running

from lepton_ai.serve.access import Key, KeyRing, digest, new_secret

NUM_REQUESTS = int(os.environ.get("LEPTON_TEST_REQUESTS", "40"))
SECRET = new_secret()
HEADERS = {"authorization": f"Bearer {SECRET}"}
KEYS = KeyRing([Key("me", digest(SECRET))])
DOCUMENT = app_without_models(KEYS).openapi()
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
OPERATIONS = {(path, method) for path, methods in DOCUMENT["paths"].items() for method in methods}
NAMES = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
)
FEW: dict[str, Any] = {"max_tokens": 4, "max_completion_tokens": 4, "n": 2, "best_of": 2, "min_tokens": 1}
"""Good values, without which a good request takes long."""


def sensible(path: str, body: dict[str, Any]) -> dict[str, Any]:
    """A good request as far as a schema can say, made one that a model can answer, and soon."""
    body = body | {"model": "bert" if path == "/v1/embeddings" else "tiny"}
    body |= {name: value for name, value in FEW.items() if body.get(name) is not None}
    if path.endswith("completions") and body.get("max_completion_tokens") is None:
        body["max_tokens"] = 4
    if "messages" in body:
        body["messages"] = [message | {"content": message.get("content") or "x"} for message in body["messages"]]
    return body


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("generated")
    encoder = write_files(folder / "bert", published_bert() | SENTENCE_FILES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEPTON_HOME", str(folder / "home"))
        with running({"tiny": tiny_gguf(folder / "tiny.gguf"), "bert": encoder}, KEYS) as made:
            yield made


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize(("path", "method"), sorted(OPERATIONS))
def test_generated_requests(server: Running, path: str, method: str, mode: GenerationMode) -> None:
    operation = SCHEMA[path][method.upper()]
    if mode is GenerationMode.NEGATIVE and method == "get" and "{" not in path:
        return  # nothing of it can be wrong

    names = [*NAMES, *(["negative_data_rejection"] if mode is GenerationMode.NEGATIVE else [])]
    wanted: list[Any] = list(checks.CHECKS.get_by_names(names))

    @settings(
        max_examples=NUM_REQUESTS,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Case[Any]) -> None:
        if isinstance(case.body, dict) and mode is GenerationMode.POSITIVE:
            case.body = sensible(path, case.body)
        case.call_and_validate(base_url=server.url, headers=HEADERS, checks=wanted, timeout=60)

    ask()
