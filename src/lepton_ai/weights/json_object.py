"""JSON of foreign files: objects whose keys are distinct, and nothing that JSON itself does not know."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import NoReturn

from lepton_ai.errors import InvalidModel, StorageError
from lepton_ai.weights.files import open_regular, shown


def read_object(path: Path, *, max_bytes: int) -> dict[str, object]:
    """The object in a file. Raises what ``open_regular`` and ``parse_object`` raise, and StorageError."""
    return _object(_parse(_read(path, max_bytes), str(path)), str(path))


def read_list(path: Path, *, max_bytes: int) -> list[object]:
    """The list in a file. Raises like ``read_object``."""
    parsed = _parse(_read(path, max_bytes), str(path))
    if not isinstance(parsed, list):
        raise InvalidModel(f"{path}: expected a list, got {type(parsed).__name__}", param="model")
    return parsed


def parse_object(data: bytes, label: str) -> dict[str, object]:
    """The object that ``data`` spell. Raises InvalidModel, naming ``label``, for anything else."""
    return _object(_parse(data, label), label)


def _read(path: Path, max_bytes: int) -> bytes:
    try:
        with open_regular(path) as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror}", param="model") from None
    if len(data) > max_bytes:
        raise InvalidModel(f"{path}: expected at most {max_bytes} bytes of JSON, got more", param="model")
    return data


def _parse(data: bytes, label: str) -> object:
    try:
        parsed: object = json.loads(data.decode("utf-8"), object_pairs_hook=_distinct, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]
        raise InvalidModel(f"{label}: expected JSON, got what is not: {reason}", param="model") from None
    return parsed


def _object(parsed: object, label: str) -> dict[str, object]:
    if not isinstance(parsed, dict):
        raise InvalidModel(f"{label}: expected an object, got {type(parsed).__name__}", param="model")
    return parsed


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number of JSON")


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object; JSON itself would let the last of two equal keys win."""
    result = dict(pairs)
    if len(result) != len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"key {shown(twice)} stands there twice")
    if not all(map(is_text, result)):
        raise ValueError("a key with half of a surrogate pair")
    return result


def is_text(value: str) -> bool:
    """Whether ``value`` can be written as UTF-8: JSON escapes can spell half of a surrogate pair."""
    return value.isascii() or not any("\ud800" <= char <= "\udfff" for char in value)
