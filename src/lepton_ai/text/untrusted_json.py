"""JSON out of a folder that nobody has read: bounded, without duplicate keys, and taken apart field by field."""

from __future__ import annotations

import json
from typing import NoReturn, TypeVar

from lepton_ai.errors import InvalidModel

T = TypeVar("T")

_MAX_STRING = 1 << 20


def parse_object(data: bytes, label: str) -> Fields:
    """The JSON object in ``data``; ``label`` names it in errors. Raises InvalidModel for anything else."""
    try:
        value = json.loads(data, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except RecursionError:
        raise InvalidModel(f"{label}: expected JSON, got values nested too deeply", param="model") from None
    except ValueError as error:  # of the parser, of the decoder, of the hooks
        raise InvalidModel(f"{label}: expected JSON in UTF-8, got what fails: {error}", param="model") from None
    return Fields(value, label)


class Fields:
    """The fields of a JSON object, each taken once. Raises InvalidModel, naming the field, for another type."""

    __slots__ = ("_label", "_values")

    def __init__(self, value: object, label: str) -> None:
        self._label = label
        self._values = dict(_typed(value, dict, label))

    def __contains__(self, name: str) -> bool:
        return self._values.get(name) is not None

    def take(self, name: str, kind: type[T], default: T | None = None) -> T:
        """The value of ``name``, which must be of ``kind``; ``default`` where it is missing or null."""
        value = self._values.pop(name, None)
        if value is None:
            value = default
        return _typed(value, kind, f"{self._label}: {name}")

    def take_fields(self, name: str) -> Fields:
        """The object under ``name``, which must be there."""
        return Fields(self._values.pop(name, None), f"{self._label}: {name}")

    def take_any(self, name: str) -> object:
        """The value of ``name``, whatever it is; None where it is missing."""
        return self._values.pop(name, None)

    def refuse_rest(self) -> None:
        """Raises InvalidModel for a field that was not taken and is not null: it would change what is computed."""
        if rest := [name[:80] for name, value in self._values.items() if value is not None]:
            names = ", ".join(sorted(rest))
            raise self.wrong("no further field", names)

    def names(self) -> list[str]:
        """The names of the fields that were not taken."""
        return list(self._values)

    def wrong(self, expected: str, got: object) -> InvalidModel:
        """The error that names this object."""
        return InvalidModel(f"{self._label}: expected {expected}, got {got}", param="model")

    @property
    def label(self) -> str:
        """How errors name this object."""
        return self._label


def _typed(value: object, kind: type[T], label: str) -> T:
    # To Python True is an integer, to JSON it is not.
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise InvalidModel(f"{label}: expected {kind.__name__}, got {type(value).__name__}", param="model")
    if isinstance(value, str) and (len(value) > _MAX_STRING or not is_text(value)):
        raise InvalidModel(f"{label}: expected text up to {_MAX_STRING} characters without surrogates", param="model")
    return value


def is_text(value: str) -> bool:
    """Whether ``value`` can be written as UTF-8: JSON escapes can spell half of a surrogate pair."""
    return value.isascii() or not any("\ud800" <= char <= "\udfff" for char in value)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a key that stands there twice")
    if not all(map(is_text, fields)):
        raise ValueError("a key with half of a surrogate pair")
    return fields


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name}, which is no JSON")
