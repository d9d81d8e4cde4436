"""JSON schemas as servers see them, by seed: tools, forms, answers with a few fields."""

from __future__ import annotations

import random
from collections.abc import Callable

Schema = dict[str, object]

_NAMES = ("id", "name", "city", "price", "tags", "state", "when", "note", "count", "parts")


def make_schema(seed: int) -> Schema:
    """An object at the top, nested up to three deep, with definitions in one of four."""
    rng = random.Random(seed)
    schema = _object(rng, depth=2)
    if rng.random() < 0.25:
        properties = schema["properties"]
        assert isinstance(properties, dict)
        properties["shared"] = {"$ref": "#/$defs/shared"}
        schema["$defs"] = {"shared": _any(rng, depth=1)}
    return schema


def _any(rng: random.Random, depth: int) -> Schema:
    kinds: list[Callable[[random.Random, int], Schema]] = [_text, _number, _choice, _flag]
    if depth:
        kinds += [_object, _array, _union]
    return rng.choice(kinds)(rng, depth)


def _object(rng: random.Random, depth: int) -> Schema:
    names = rng.sample(_NAMES, rng.randrange(1, 4))
    properties = {name: _any(rng, depth - 1) for name in names}
    required = [name for name in names if rng.random() < 0.7]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _array(rng: random.Random, depth: int) -> Schema:
    low = rng.randrange(0, 2)
    return {"type": "array", "items": _any(rng, depth - 1), "minItems": low, "maxItems": low + rng.randrange(1, 3)}


def _union(rng: random.Random, depth: int) -> Schema:
    return {"anyOf": [_any(rng, depth - 1), {"type": "null"}]}


def _text(rng: random.Random, depth: int) -> Schema:
    return rng.choice(
        [
            {"type": "string", "minLength": 1, "maxLength": 12},
            {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{4}$"},
            {"type": "string", "format": rng.choice(["date", "uuid", "ipv4", "email"])},
        ]
    )


def _number(rng: random.Random, depth: int) -> Schema:
    low = rng.randrange(-50, 50)
    return rng.choice(
        [
            {"type": "integer", "minimum": low, "maximum": low + rng.randrange(0, 2000)},
            {"type": "integer", "exclusiveMinimum": low, "maximum": low + 7},
            {"type": "number", "minimum": 0, "exclusiveMaximum": 1},
            {"type": "integer", "minimum": 0, "maximum": 900, "multipleOf": rng.choice([5, 10])},
        ]
    )


def _choice(rng: random.Random, depth: int) -> Schema:
    return rng.choice([{"enum": ["low", "high", 3, None, 'ein "Wort"']}, {"const": {"fixed": [1, True]}}])


def _flag(rng: random.Random, depth: int) -> Schema:
    return rng.choice([{"type": "boolean"}, {"type": ["boolean", "null"]}])
