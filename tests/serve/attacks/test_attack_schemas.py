"""Schemas that explode, recurse, or are none. Those that are refused are refused by name; the others are obeyed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.serve.attacks.harness import CHAT, COMPLETIONS, MESSAGES, Target

Schema = dict[str, Any]


def nested(wrap: Callable[[Schema], Schema], levels: int, leaf: Schema) -> Schema:
    """``leaf`` in that many layers."""
    for _ in range(levels):
        leaf = wrap(leaf)
    return leaf


def ref(name: str) -> Schema:
    """A reference to a definition."""
    return {"$ref": f"#/$defs/{name}"}


def doubling(make: Callable[[Schema], Schema], levels: int) -> Schema:
    """Each definition refers to the next one twice."""
    definitions = {f"d{i}": make(ref(f"d{i + 1}")) for i in range(levels)}
    return {"$defs": {**definitions, f"d{levels}": {"type": "string"}}, **ref("d0")}


REFUSED: dict[str, Any] = {
    "a reference to itself": {"$ref": "#"},
    "references in a circle": {"$defs": {"a": ref("b"), "b": ref("a")}, **ref("a")},
    "itself among all": {"allOf": [{"$ref": "#"}, {"type": "object"}]},
    "itself among any": {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]},
    "another server": {"$ref": "http://127.0.0.1:9/schema.json"},
    "a file": {"$ref": "file:///etc/passwd"},
    "nothing": ref("nothing"),
    "a type that is none": {"type": "everything"},
    "a type that is a number": {"type": 5},
    "properties that are a number": {"type": "object", "properties": 5},
    "a property that is text": {"type": "object", "properties": {"foo": "bar"}},
    "required as text": {"type": "object", "required": "a"},
    "not": nested(lambda s: {"not": s}, 60, {}),
    "a thousand levels": nested(lambda s: {"type": "array", "items": s}, 140, {"type": "string"}),
    "a pattern that does not compile": {"type": "string", "pattern": "("},
    "look-ahead": {"type": "string", "pattern": "(?=a)b"},
    "a back reference": {"type": "string", "pattern": r"(a)\1"},
    "multiples of nothing": {"type": "integer", "multipleOf": 0},
    "common multiples": {"allOf": [{"type": "integer", "multipleOf": p} for p in (999983, 999979, 999961, 999959)]},
    "an empty range": {"type": "number", "minimum": 1e308, "maximum": -1e308},
    "a constant of 4,000 digits": {"const": 10**4000},
    "a format that is none": {"type": "string", "format": "\x00"},
    "a combination of combinations": {
        "allOf": [{"anyOf": [{"properties": {f"p{i}_{j}": {"type": "string"}}} for j in range(8)]} for i in range(12)]
    },
    "what would be left out": {"type": "array", "uniqueItems": True, "x-guidance": {"lenient": True}},
    "an enumeration of megabytes": {"enum": [f"{i:0100d}" for i in range(3000)]},
    "many patterns at once": {
        "allOf": [{"type": "string", "pattern": f"^.*{'a' * i}.{{0,{i}}}$"} for i in range(1, 40)]
    },
    "many patterns of many forms": {
        "allOf": [
            {
                "type": "string",
                "pattern": f"^([a-f]|[c-z])*[b-h]([a-f]|[c-z]){{{i}}}$|^(a|b)*a(a|b){{{i}}}|x(a|c)*c(a|b){{{i}}}",
            }
            for i in range(14)
        ]
    },
}

OBEYED: dict[str, Any] = {
    "references that double": doubling(lambda s: {"type": "object", "properties": {"a": s, "b": s}}, 60),
    "all of twice the same": doubling(lambda s: {"allOf": [s, s]}, 40),
    "any of twice the same": doubling(lambda s: {"anyOf": [s, s]}, 40),
    "itself as an item": {"type": "object", "properties": {"c": {"type": "array", "items": {"$ref": "#"}}}},
    "9,000 values": {"enum": [f"value number {i}" for i in range(9000)]},
    "many properties": {"type": "object", "properties": {f"k{i}": {"type": "string"} for i in range(1000)}},
    "at least 10**9 items": {"type": "array", "minItems": 10**9},
    "at most 10**9 items": {"type": "array", "items": {"type": "integer"}, "maxItems": 10**9},
    "at least 10**9 characters": {"type": "string", "minLength": 10**9},
    "deep unions": nested(lambda s: {"anyOf": [s, {"type": "null"}]}, 60, {"type": "boolean"}),
    "nested quantifiers": {"type": "string", "pattern": "^(a+)+$"},
    "equal alternatives": {"type": "string", "pattern": "^(a|a)*b(a|aa)+$"},
    "10**9 repetitions": {"type": "string", "pattern": "^a{1000000000}$"},
    "repetitions of repetitions": {"type": "string", "pattern": "^((a{1000}){1000}){1000}$"},
    "letters of all scripts": {"type": "string", "pattern": r"^\p{L}{0,2000}\w{0,2000}$"},
}


def asked(schema: object) -> dict[str, Any]:
    """A chat that must answer so."""
    format_ = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    return {"model": "tiny", "messages": MESSAGES, "max_tokens": 4, "response_format": format_}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(target: Target, name: str) -> None:
    error = target.refused(CHAT, asked(REFUSED[name]))
    assert error["code"] in ("invalid_request", "constraint_too_complex") and error["message"], error


@pytest.mark.parametrize("name", OBEYED)
def test_what_is_obeyed(target: Target, name: str) -> None:
    answer = target.post(CHAT, asked(OBEYED[name]))
    if answer.status_code == 400:  # or refused as too complex: by a limit on work, not on time
        assert answer.json()["error"]["code"] == "constraint_too_complex", answer.text
    else:
        assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"type": None},
        {"type": "regex"},
        {"type": "text", "json_schema": {"schema": {}}},
        {"type": "json_object", "json_schema": {"schema": {}}},
        {"type": "json_schema"},
        {"type": "json_schema", "json_schema": None},
        {"type": "json_schema", "json_schema": {}},
        {"type": "json_schema", "json_schema": {"schema": None}},
        {"type": "json_schema", "json_schema": {"schema": "{}"}},
        {"type": "json_schema", "json_schema": {"schema": []}},
        {"type": "json_schema", "json_schema": {"schema": {}, "strict": "yes"}},
        {"type": "json_schema", "schema": {}},
        {"type": "json_schema", "json_schema": {"schema": {"a" * 300_000: 1}}},
        {"type": "grammar", "grammar": "start: start"},
        "json_object",
        [],
    ],
    ids=lambda given: json.dumps(given)[:70],
)
def test_forms_of_answers(target: Target, given: object) -> None:
    for path, more in ((CHAT, {"messages": MESSAGES}), (COMPLETIONS, {"prompt": "x"})):
        assert target.refused(path, {"model": "tiny", "response_format": given, **more})


def test_a_schema_beside_what_it_excludes(target: Target) -> None:
    assert target.refused(CHAT, asked({"type": "string"}) | {"min_tokens": 2})["param"] == "min_tokens"
