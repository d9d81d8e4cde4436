"""docs/api.md has each route, field and error that there is, with its bounds, and nothing else."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest
from openai.types import completion_create_params, embedding_create_params
from openai.types.chat import completion_create_params as chat_create_params
from pydantic import ValidationError

from lepton_ai import errors as public_errors
from lepton_ai.engine.remote.link import ProtocolError
from lepton_ai.engine.request_options import RequestOptions
from lepton_ai.engine.sampling_params import SamplingParams
from lepton_ai.errors import InvalidRequest, LeptonError
from lepton_ai.serve.access.options import AccessOptions
from lepton_ai.serve.access.rate_limits import RATE_HEADERS
from lepton_ai.serve.access.scopes import OPEN_PATHS, Scope, scope_of
from lepton_ai.serve.app import create_app
from lepton_ai.serve.http import connection
from lepton_ai.serve.http.errors import ClientLeft, error_object
from lepton_ai.serve.life.deadline import HEADER
from lepton_ai.serve.protocol.base import RequestModel
from lepton_ai.serve.protocol.chat import ChatRequest
from lepton_ai.serve.protocol.completions import CompletionRequest
from lepton_ai.serve.protocol.embeddings import DetokenizeRequest, EmbeddingRequest, TokenizeRequest
from lepton_ai.serve.server_limits import ServerLimits
from lepton_ai.serve.service import Service

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "api.md").read_text(encoding="utf-8")

SECTIONS: dict[type[RequestModel], tuple[str, ...]] = {
    ChatRequest: ("Sampling", "Chats", "Messages", "Tools"),
    CompletionRequest: ("Sampling", "Completions"),
    EmbeddingRequest: ("Embeddings",),
}
"""Where the fields of a request stand."""

OFFICIAL: dict[type[RequestModel], tuple[type, ...]] = {
    ChatRequest: (
        chat_create_params.CompletionCreateParamsNonStreaming,
        chat_create_params.CompletionCreateParamsStreaming,
    ),
    CompletionRequest: (
        completion_create_params.CompletionCreateParamsNonStreaming,
        completion_create_params.CompletionCreateParamsStreaming,
    ),
    EmbeddingRequest: (embedding_create_params.EmbeddingCreateParams,),
}
"""What the original's client may send."""

LEAST: dict[type[RequestModel], dict[str, object]] = {
    ChatRequest: {"model": "x", "messages": [{"role": "user", "content": "x"}]},
    CompletionRequest: {"model": "x", "prompt": "x"},
    EmbeddingRequest: {"model": "x", "input": "x"},
}
NEEDED: dict[str, dict[str, object]] = {"top_logprobs": {"logprobs": True}, "stream_options": {"stream": True}}
"""Fields that need others."""

NOT_ANSWERED = frozenset(
    (
        *(public_errors.InvalidModel, public_errors.UnsupportedModel, public_errors.WeightMismatch),
        *(public_errors.DownloadFailed, public_errors.DigestMismatch),
        *(public_errors.StorageError, public_errors.HardwareUnsupported),
        public_errors.Overloaded,  # its kinds are
        ClientLeft,  # nobody is there to read it
        ProtocolError,  # between two processes of ours
    )
)
"""Errors that come before a server serves, or that no client sees."""

FROM_ROUTER = {(404, "not_found"), (405, "method_not_allowed")}


def section(heading: str) -> str:
    """What stands under a heading, up to the next."""
    found = re.search(rf"^##+ {heading}\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, heading
    return found[1]


def table(text: str, head: str) -> list[list[str]]:
    """The rows of the first table whose head begins so."""
    found = re.search(rf"^\| {re.escape(head)}.*\n\|[ -|]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    return [] if found is None else [[c.strip() for c in row.strip("|").split(" |")] for row in found[1].splitlines()]


def rows_of(model: type[RequestModel]) -> list[list[str]]:
    return [row for heading in SECTIONS[model] for row in table(section(heading), "field |")]


def name_of(row: list[str]) -> str:
    return row[0].removesuffix(" (ours)").strip("`")


def models_in(annotation: object, place: str) -> Iterator[tuple[str, type[RequestModel]]]:
    """The models that a field may hold, each with its place; ``[]`` is an item of a list."""
    if isinstance(annotation, type) and issubclass(annotation, RequestModel):
        yield place, annotation
    inner = f"{place}[]" if typing.get_origin(annotation) is list else place
    for part in typing.get_args(annotation):
        yield from models_in(part, inner)


def nodes(model: type[RequestModel], place: str = "") -> Iterator[tuple[str, type[RequestModel]]]:
    """A request and all objects in it, each with what stands before the names of its fields."""
    yield place, model
    for name, field in model.model_fields.items():
        for inner, kind in models_in(field.annotation, f"{place}{field.alias or name}"):
            yield from nodes(kind, f"{inner}.")


def fields_of(model: type[RequestModel]) -> set[str]:
    return {f"{place}{f.alias or name}" for place, kind in nodes(model) for name, f in kind.model_fields.items()}


def refused_in(model: type[RequestModel]) -> dict[str, str]:
    return {f"{place}{name}": why for place, kind in nodes(model) for name, why in kind.unsupported.items()}


def official_of(model: type[RequestModel]) -> set[str]:
    return {name for params in OFFICIAL[model] for name in typing.get_type_hints(params)}


def check(model: type[RequestModel], name: str, value: object) -> None:
    """Raises what a route would for this value of a field, a model apart."""
    body = model.model_validate(LEAST[model] | NEEDED.get(name, {}) | {name: value})
    if isinstance(body, ChatRequest):
        body.params(SamplingParams(), None)
    if isinstance(body, CompletionRequest):
        body.params(SamplingParams())
    if isinstance(body, ChatRequest | CompletionRequest):
        RequestOptions(priority=body.priority or 0)


def is_taken(model: type[RequestModel], name: str, value: object) -> bool:
    try:
        check(model, name, value)
    except (InvalidRequest, ValidationError):
        return False
    return True


@pytest.mark.parametrize("model", SECTIONS)
def test_the_tables_have_the_fields_that_there_are(model: type[RequestModel]) -> None:
    rows = [name_of(row) for row in rows_of(model)]
    assert len(rows) == len(set(rows))
    assert set(rows) == fields_of(model)


@pytest.mark.parametrize(("model", "path"), [(TokenizeRequest, "/tokenize"), (DetokenizeRequest, "/detokenize")])
def test_fields_of_the_routes_of_tokens(model: type[RequestModel], path: str) -> None:
    assert {name_of(row) for row in table(section("Tokens"), f"field of `{path}` |")} == fields_of(model)


@pytest.mark.parametrize("model", SECTIONS)
def test_the_tables_say_what_is_refused_and_why(model: type[RequestModel]) -> None:
    rows = [row for heading in SECTIONS[model] for row in table(section(heading), "refused |")]
    assert {name_of(row): row[1] for row in rows} == refused_in(model)


@pytest.mark.parametrize("model", SECTIONS)
def test_each_field_of_the_original_is_taken_or_refused_by_name(model: type[RequestModel]) -> None:
    assert len(official_of(model)) >= 5
    assert sorted(official_of(model) - set(model.model_fields) - set(model.unsupported)) == []


@pytest.mark.parametrize("model", SECTIONS)
def test_fields_that_the_original_lacks_are_marked(model: type[RequestModel]) -> None:
    known = official_of(model) | {"response_format"}  # which the page speaks of
    ours = {name_of(row) for row in rows_of(model) if row[0].endswith(" (ours)") and "." not in row[0]}
    assert ours == set(model.model_fields) - known


@pytest.mark.parametrize("model", SECTIONS)
def test_required_fields_and_no_others_are_said_to_be(model: type[RequestModel]) -> None:
    said = {name_of(row) for row in rows_of(model) if row[2] == "required" and "." not in row[0]}
    assert said == {name for name, field in model.model_fields.items() if field.is_required()}


@pytest.mark.parametrize("model", [ChatRequest, CompletionRequest])
def test_null_is_as_good_as_leaving_a_field_out(model: type[RequestModel]) -> None:
    optional = {name for name, field in model.model_fields.items() if not field.is_required()} | set(model.unsupported)
    assert [name for name in sorted(optional) if not is_taken(model, name, None)] == []


def number(text: str) -> float:
    """A bound; ``2^31 - 1`` stays an integer."""
    power, _, less = text.partition(" - ")
    base, _, exponent = power.partition("^")
    return int(base) ** int(exponent) - int(less) if exponent else float(text)


def numbers() -> Iterator[tuple[type[RequestModel], str, str, str]]:
    for model in SECTIONS:
        for row in rows_of(model):
            if row[1].startswith(("integer,", "number,")):
                kind, _, bounds = row[1].partition(", ")
                yield model, name_of(row), kind, bounds


@pytest.mark.parametrize(("model", "name", "kind", "bounds"), [*numbers()])
def test_bounds_are_those_of_the_table(model: type[RequestModel], name: str, kind: str, bounds: str) -> None:
    found = re.fullmatch(r"(above )?(\S+) to (.+)", bounds)
    assert found, bounds
    least, most = number(found[2]), number(found[3])
    step = 1 if kind == "integer" else 1e-3
    convert = int if kind == "integer" else float
    inside = [convert(most), *([] if found[1] else [convert(least)])]
    outside = [convert(most) + step, convert(least) - step, *([convert(least)] if found[1] else [])]
    if name == "min_tokens":  # at most as many as are asked for
        inside = inside[1:]
    assert [value for value in inside if not is_taken(model, name, value)] == []
    assert [value for value in outside if is_taken(model, name, value)] == []


def simple() -> Iterator[tuple[type[RequestModel], str, str]]:
    for model in SECTIONS:
        for row in rows_of(model):
            kind = row[1].partition(",")[0]
            if kind in ("string", "integer", "number", "boolean") and "." not in row[0] and " or " not in row[1]:
                yield model, name_of(row), kind


@pytest.mark.parametrize(("model", "name", "kind"), [case for case in simple() if case[1] not in ("prompt", "input")])
def test_types_are_those_of_the_table(model: type[RequestModel], name: str, kind: str) -> None:
    samples: dict[str, object] = {"string": "x", "integer": 1, "number": 0.5, "boolean": True}
    fitting = {kind, *(["integer"] if kind == "number" else [])}
    taken = {which for which, value in samples.items() if is_taken(model, name, value)}
    assert taken == fitting


def test_routes_and_their_scopes() -> None:
    paths = create_app(Service({}), AccessOptions(), ServerLimits()).openapi()["paths"]
    there = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    listed = table(PAGE, "route |")
    names = {tuple(row[0].strip("`").split()): row[1].strip("`") for row in listed}
    assert set(names) == there | {("GET", "/openapi.json")}  # which leaves itself out
    for (_, path), scope in names.items():
        wanted = scope_of(path)
        assert scope == ("no key" if path in OPEN_PATHS else "any" if wanted is None else wanted.value)
    assert {scope.value for scope in Scope} - set(names.values()) == {"admin"}


def kinds_of_errors() -> set[type[LeptonError]]:
    """All that the server's modules know, once they are there: not those of clients, which other tests bring."""
    assert connection  # which brings the last of them
    found: list[type[LeptonError]] = [LeptonError]
    for kind in found:  # which grows
        found += kind.__subclasses__()
    ours = (kind for kind in found if kind.__module__.startswith("lepton_ai."))
    return {kind for kind in ours if not kind.__module__.startswith("lepton_ai.loadgen.")}


def test_errors_are_those_that_clients_can_get() -> None:
    rows = table(section("Errors"), "status |")
    listed = [(int(status), code.strip("`")) for status, _, code, _ in rows]
    assert len(listed) == len(set(listed))
    answered = {(kind.status, kind.code) for kind in kinds_of_errors() - NOT_ANSWERED}
    assert set(listed) == answered | FROM_ROUTER
    for status, kind, _, _ in rows:
        error = LeptonError("x")
        error.status = int(status)
        assert error_object(error)["error"]["type"] == kind.strip("`")


def test_headers_are_named() -> None:
    text = section("Headers")
    assert [name for name in (*RATE_HEADERS, HEADER, "x-request-id", "retry-after") if f"`{name}`" not in text] == []
