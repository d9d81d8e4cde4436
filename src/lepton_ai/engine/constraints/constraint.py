"""What a text must look like: said by a caller, checked when it is said."""

from __future__ import annotations

import enum
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lepton_ai.errors import InvalidRequest

_MAX_SOURCE_BYTES = 256 * 1024
_MAX_OPTIONS = 1000

JSON_WHITESPACE = r"[\x20\x0A\x0D\x09]{0,24}"
"""Between parts of JSON, unless a schema's ``x-guidance`` says otherwise: no model may go on with spaces for ever."""


class ConstraintKind(enum.Enum):
    """The language that a constraint is written in."""

    JSON_SCHEMA = "json_schema"
    REGEX = "regex"
    GRAMMAR = "grammar"


@dataclass(frozen=True, slots=True)
class Constraint:
    """A language that every completion is a text of, unless it ends early by ``max_tokens`` or a stop string.

    Made by ``json_schema``, ``regex``, ``grammar`` or ``choice``. It is compiled when a request is made. What the
    compiler does not support, or what grows too large, is refused then; nothing of it is left out in silence. Raises
    InvalidRequest for a source that is too long.
    """

    kind: ConstraintKind
    source: str

    def __post_init__(self) -> None:
        if len(self.source.encode("utf-8", errors="surrogatepass")) > _MAX_SOURCE_BYTES:
            raise InvalidRequest(f"constraint: expected at most {_MAX_SOURCE_BYTES} bytes", param="constraint")

    @classmethod
    def json_schema(cls, schema: Mapping[str, object] | bool | str) -> Constraint:
        """JSON that is valid under a schema, as a value or in text. ``True`` stands for any JSON.

        Raises InvalidRequest for what is no JSON object or boolean, or is too long.
        """
        if isinstance(schema, str):
            try:
                schema = json.loads(schema)
            except (ValueError, RecursionError) as error:
                raise InvalidRequest(f"constraint: expected a JSON schema, got {error}", param="constraint") from None
        if not isinstance(schema, Mapping | bool):
            raise InvalidRequest("constraint: expected a JSON schema, an object or a boolean", param="constraint")
        try:
            source = json.dumps(dict(schema) if isinstance(schema, Mapping) else {} if schema else {"not": {}})
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidRequest(f"constraint: expected a JSON schema, got {error}", param="constraint") from None
        return cls(ConstraintKind.JSON_SCHEMA, source)

    @classmethod
    def regex(cls, pattern: str) -> Constraint:
        """A text that a regular expression matches as a whole.

        The syntax is that of Rust's ``regex``, without look-around; ``\\d`` is any digit of Unicode.
        Raises InvalidRequest for what is no text, or is too long.
        """
        return cls(ConstraintKind.REGEX, _text(pattern, "a regular expression"))

    @classmethod
    def grammar(cls, lark: str) -> Constraint:
        """A text of a context-free grammar in the notation of Lark, from the rule ``start``.

        Raises InvalidRequest for what is no text, or is too long.
        """
        return cls(ConstraintKind.GRAMMAR, _text(lark, "a grammar"))

    @classmethod
    def choice(cls, options: Iterable[str]) -> Constraint:
        """One of some texts. Raises InvalidRequest for none, more than 1,000, or an empty one."""
        listed = [] if isinstance(options, str) else [*options]
        if not 0 < len(listed) <= _MAX_OPTIONS or not all(isinstance(o, str) and o for o in listed):
            raise InvalidRequest(
                f"constraint: expected 1 to {_MAX_OPTIONS} non-empty strings to choose from", param="constraint"
            )
        alternatives = " | ".join(json.dumps(option, ensure_ascii=False) for option in dict.fromkeys(listed))
        return cls(ConstraintKind.GRAMMAR, f"start: {alternatives}")


def _text(value: object, expected: str) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidRequest(f"constraint: expected {expected}, got {value!r}", param="constraint")
    return value
