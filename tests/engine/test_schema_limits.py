"""How many patterns one text may have to match."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lepton_ai.engine.constraints.schema_limits import check_joined_patterns
from lepton_ai.errors import ConstraintTooComplex

P: dict[str, Any] = {"type": "string", "pattern": "a"}
OF_LETTERS = {"type": "object", "properties": dict.fromkeys("abcdef", P)}
JOINED: dict[str, tuple[dict[str, Any], int | None]] = {
    "many properties": (OF_LETTERS, None),
    "one of many": ({"anyOf": [P] * 9}, None),
    "nested": ({"items": {"items": {"items": OF_LETTERS}}}, None),
    "three": ({"allOf": [P, P, P], "properties": {"a": {}}}, None),
    "four": ({"allOf": [P, P, P, {"format": "email"}]}, 4),
    "in turn": ({"allOf": [P, {"allOf": [P, {"allOf": [P, {"allOf": [P]}]}]}]}, 4),
    "below": ({"allOf": [{"properties": {"a": {"items": P}}}] * 4}, 4),
    "beside branches": ({"pattern": "a", "anyOf": [{"pattern": "b", "oneOf": [{"pattern": "c", "anyOf": [P]}]}]}, 4),
    "referred to": ({"$defs": {"p": P}, "allOf": [{"$ref": "#/$defs/p"}] * 4, "x": [P, P, P]}, 4),
    "escaped": ({"$defs": {"a/b": {"~": P}}, "allOf": [{"$ref": "#/$defs/a~1b/~0"}] * 4, "x": [P] * 3}, 4),
    "in percent": ({"$defs": {"p": P}, "allOf": [{"$ref": "#/%24defs/p"}] * 4, "x": [P] * 3}, 4),
    "an item": ({"x": [{}, P], "allOf": [{"$ref": "#/x/1"}] * 4, "y": [P] * 3}, 4),
    "doubled": (
        {
            "$defs": {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(9)} | {"d9": P},
            "$ref": "#/$defs/d0",
            "x": [P] * 3,
        },
        512,
    ),
    "a tree": ({"properties": {"a": {"$ref": "#"}, "b": P, "c": P, "d": P, "e": P}}, None),
    "a tree that joins": ({"allOf": [{"properties": {"a": {"$ref": "#"}}}], "properties": {"a": P}, "x": [P] * 3}, 6),
    "elsewhere": ({"$ref": "#anchor", "x": [P] * 5}, 5),
}


@pytest.mark.parametrize("name", JOINED)
def test_joined_patterns(name: str) -> None:
    schema, refused = JOINED[name]
    if refused is None:
        check_joined_patterns(json.dumps(schema))
    else:
        with pytest.raises(ConstraintTooComplex, match=f"at most 3 patterns .* got {refused}$"):
            check_joined_patterns(json.dumps(schema))


def test_a_thousand_levels() -> None:
    source = '{"items":' * 900 + json.dumps({"allOf": [P] * 4}) + "}" * 900
    with pytest.raises(ConstraintTooComplex):
        check_joined_patterns(source)
