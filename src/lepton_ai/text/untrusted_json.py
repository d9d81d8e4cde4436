"""JSON objects out of a folder that nobody has read, taken apart field by field."""

from __future__ import annotations

from typing import TypeVar

from lepton_ai.errors import InvalidModel
from lepton_ai.weights import json_object

T = TypeVar("T")

_MAX_STRING = 1 << 20


def parse_object(data: bytes, label: str) -> Fields:
    """The JSON object in ``data``; ``label`` names it in errors. Raises InvalidModel for anything else."""
    return Fields(json_object.parse_object(data, label), label)


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

    def peek(self, name: str) -> object:
        """What ``take_any`` gives, which can still be taken."""
        return self._values.get(name)

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
    if isinstance(value, str) and (len(value) > _MAX_STRING or not json_object.is_text(value)):
        raise InvalidModel(f"{label}: expected text up to {_MAX_STRING} characters without surrogates", param="model")
    return value
