"""A limit that llguidance lacks: of patterns that one text must match at once.

Whether any text matches several patterns is found by multiplying their automata, and nothing bounds how long that
takes: 14 patterns took minutes, 20 would take years. Three take a twentieth of a second, however long they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from urllib.parse import unquote

from lepton_ai.errors import ConstraintTooComplex

_MAX_JOINED = 3

_BY_NAME = ("properties", "patternProperties", "dependentSchemas")
_PLAIN = ("items", "prefixItems", "additionalProperties", "unevaluatedProperties", "contains", "propertyNames", "not")
_CONDITIONS = ("if", "then", "else")


def check_joined_patterns(source: str) -> None:
    """Raise ConstraintTooComplex for a JSON schema that may ask of one text to match more than three patterns.

    ``format`` counts as a pattern. Schemas are joined by ``allOf``, and by what stands beside ``$ref``, ``anyOf`` and
    ``oneOf``; of what is joined, patterns of different properties are counted as if they were of one.
    """
    num_patterns = sum(source.count(f'"{name}"') for name in ("pattern", "format"))
    if num_patterns <= _MAX_JOINED:
        return
    try:
        # What is joined within itself may grow from level to level.
        if_circular = num_patterns if '"allOf"' in source else 0
        num_joined = _Counter(json.loads(source), if_unclear=num_patterns, if_circular=if_circular).count()
    except RecursionError:
        raise ConstraintTooComplex("constraint: expected fewer levels", param="constraint") from None
    if num_joined > _MAX_JOINED:
        raise ConstraintTooComplex(
            f"constraint: expected at most {_MAX_JOINED} patterns and formats in schemas that are joined by allOf, "
            f"got {num_joined}",
            param="constraint",
        )


class _Counter:
    """Counts the patterns that one text may have to match, at most; ``if_unclear`` where that is not to be seen."""

    def __init__(self, root: object, *, if_unclear: int, if_circular: int) -> None:
        self._root = root
        self._if_unclear = if_unclear
        self._known: dict[str, int] = {}
        self._if_circular = if_circular

    def count(self) -> int:
        return self._count(self._root)

    def _count(self, schema: object) -> int:
        if isinstance(schema, list):
            return self._most(schema)
        if not isinstance(schema, dict):
            return 0
        own = isinstance(schema.get("pattern"), str) + isinstance(schema.get("format"), str)
        joined = sum(map(self._count, _list_of(schema.get("allOf"))))
        referred = self._count_reference(schema["$ref"]) if "$ref" in schema else 0
        branches = [*_list_of(schema.get("anyOf")), *_list_of(schema.get("oneOf"))]
        return own + joined + referred + self._most(branches) + self._most(_children(schema))

    def _most(self, schemas: Iterable[object]) -> int:
        return max(map(self._count, schemas), default=0)

    def _count_reference(self, reference: object) -> int:
        if not isinstance(reference, str):
            return 0
        if reference not in self._known:
            self._known[reference] = self._if_circular
            found, schema = _find(self._root, reference)
            self._known[reference] = self._count(schema) if found else self._if_unclear
        return self._known[reference]


def _find(root: object, reference: str) -> tuple[bool, object]:
    """Whether a reference is a JSON pointer (RFC 6901) into ``root``, and what it points to."""
    schema = root
    for part in unquote(reference).split("/"):
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(schema, dict) and name in schema:
            schema = schema[name]
        elif isinstance(schema, list) and name.isdecimal() and int(name) < len(schema):
            schema = schema[int(name)]
        elif part != "#" or schema is not root:
            return False, None
    return True, schema


def _list_of(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _children(schema: dict[str, object]) -> Iterator[object]:
    for name in _BY_NAME:
        named = schema.get(name)
        if isinstance(named, dict):
            yield from named.values()
    yield from (schema[name] for name in (*_PLAIN, *_CONDITIONS) if name in schema)
