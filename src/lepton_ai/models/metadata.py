"""Checked reading of a checkpoint's hyper-parameters: the file is untrusted, so every value has bounds."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from lepton_ai.errors import InvalidModel, UnsupportedModel


class Metadata(Protocol):
    """Typed key-value pairs of a checkpoint.

    The ``get_*`` methods raise InvalidModel for a value of another type, and for an absent key without a default.
    """

    def __contains__(self, key: object) -> bool:
        """Whether the checkpoint has ``key``."""
        ...

    def __getitem__(self, key: str) -> object:
        """Whatever is stored. Raises KeyError for an absent key."""
        ...

    def get_int(self, key: str, default: int | None = None) -> int:
        """An integer."""
        ...

    def get_float(self, key: str, default: float | None = None) -> float:
        """A real number."""
        ...

    def get_str(self, key: str, default: str | None = None) -> str:
        """A string."""
        ...


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """The keys of one architecture: ``llama.block_count`` is ``block_count`` here."""

    metadata: Metadata
    architecture: str

    def key(self, name: str) -> str:
        """The full key of ``name``."""
        return f"{self.architecture}.{name}"

    def __contains__(self, name: str) -> bool:
        return self.key(name) in self.metadata

    def count(self, name: str, maximum: int, *, default: int | None = None) -> int:
        """An integer from 1 to ``maximum``. Raises InvalidModel."""
        value = self.metadata.get_int(self.key(name), default)
        if not 1 <= value <= maximum:
            raise self.wrong(name, f"an integer from 1 to {maximum}", value)
        return value

    def positive(self, name: str, maximum: float, *, default: float | None = None) -> float:
        """A real number above 0, at most ``maximum``. Raises InvalidModel."""
        value = self.metadata.get_float(self.key(name), default)
        if not (math.isfinite(value) and 0 < value <= maximum):
            raise self.wrong(name, f"a number above 0 and at most {maximum:g}", value)
        return value

    def wrong(self, name: str, expected: str, got: object) -> InvalidModel:
        """The error to raise for a value that is not what it must be."""
        return InvalidModel(f"{self.key(name)}: expected {expected}, got {got}", param="model")

    def refuse_options(self, names: Iterable[str]) -> None:
        """Raise UnsupportedModel if an option that changes the forward is present and not 0."""
        for name in names:
            if name in self and (value := self.metadata[self.key(name)]) != 0:
                shown = f"{value!r:.64}"
                raise UnsupportedModel(f"{self.key(name)}: {shown} is not supported, only absent or 0", param="model")
