"""Tokenizers built from committed metadata, and goldens of the outside references."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import pytest

from lepton_ai.errors import InvalidModel
from lepton_ai.text.tokenizer import Tokenizer

GOLDEN = Path(__file__).parent / "golden"


class FakeMetadata:
    """Metadata in a dictionary, with the accessors of a GGUF file's."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values
        self.keys_read: list[str] = []

    def __contains__(self, key: object) -> bool:
        return key in self.values

    def _get(self, key: str, default: Any = None) -> Any:
        self.keys_read.append(key)
        value = self.values.get(key, default)
        if value is None:
            raise InvalidModel(f"{key}: missing", param="model")
        return value

    def get_int(self, key: str, default: int | None = None) -> int:
        return cast(int, self._get(key, default))

    def get_bool(self, key: str, default: bool | None = None) -> bool:
        return cast(bool, self._get(key, default))

    def get_str(self, key: str, default: str | None = None) -> str:
        return cast(str, self._get(key, default))

    def get_str_array(self, key: str) -> list[str]:
        return cast("list[str]", self._get(key))

    def get_int_array(self, key: str) -> Iterable[int]:
        return cast("list[int]", self._get(key))

    def get_float_array(self, key: str) -> Iterable[float]:
        return cast("list[float]", self._get(key))


def read_golden(name: str) -> dict[str, Any]:
    """One compressed golden file."""
    return cast("dict[str, Any]", json.loads(gzip.decompress((GOLDEN / f"{name}.json.gz").read_bytes())))


def tiny_metadata(**changes: Any) -> FakeMetadata:
    """A vocabulary of ``a b c ab abc``, a control token, a user-defined one and an unused one."""
    values: dict[str, Any] = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": ["<s>", "a", "b", "c", "ab", "abc", "</s>", "<think>", "[PAD]"],
        "tokenizer.ggml.token_type": [3, 1, 1, 1, 1, 1, 3, 4, 5],
        "tokenizer.ggml.merges": ["a b", "ab c"],
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 6,
    }
    for name, value in changes.items():
        values[f"tokenizer.ggml.{name}"] = value
    return FakeMetadata({key: value for key, value in values.items() if value is not None})


@pytest.fixture(scope="session")
def smollm2_metadata() -> FakeMetadata:
    return FakeMetadata(read_golden("smollm2_metadata"))


@pytest.fixture(scope="session")
def smollm2(smollm2_metadata: FakeMetadata) -> Tokenizer:
    return Tokenizer.from_metadata(smollm2_metadata)


@pytest.fixture(scope="session")
def golden_strings() -> list[bytes]:
    return [text.encode("latin-1") for text in read_golden("strings")["strings"]]
