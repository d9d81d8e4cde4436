"""Checked reading of a checkpoint's hyper-parameters: the file is untrusted, so every value has bounds."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

import numpy as np

from lepton_ai.errors import InvalidModel, UnsupportedModel

EnumT = TypeVar("EnumT", bound=enum.Enum)

_MAX_WINDOW: Final = 1 << 24


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

    def flag(self, name: str, *, default: bool) -> bool:
        """A truth value. Raises InvalidModel."""
        value = self.metadata[self.key(name)] if name in self else default
        if not isinstance(value, bool):
            raise self.wrong(name, "true or false", f"{value!r:.64}")
        return value

    def choice(self, name: str, kind: type[EnumT], *, default: EnumT) -> EnumT:
        """A member of ``kind`` by its value. Raises InvalidModel."""
        value = self.metadata[self.key(name)] if name in self else default
        try:
            return kind(value)
        except ValueError:
            raise self.wrong(name, f"one of {', '.join(str(k.value) for k in kind)}", f"{value!r:.64}") from None

    def strings(self, name: str) -> Sequence[str] | None:
        """A list of strings; None if it is absent. Raises InvalidModel."""
        value = self.metadata[self.key(name)] if name in self else None
        if value is not None and not (isinstance(value, list) and all(isinstance(item, str) for item in value)):
            raise self.wrong(name, "a list of strings", f"{value!r:.64}")
        return value

    def windows(self, num_layers: int, *, default: Sequence[bool]) -> tuple[int | None, ...]:
        """How many last positions each layer sees; None for all. ``default``: the layers that have a window, where the
        checkpoint has one and does not say for which. Raises InvalidModel.
        """
        if "attention.sliding_window" not in self or self.metadata[self.key("attention.sliding_window")] == 0:
            return (None,) * num_layers
        window = self.count("attention.sliding_window", _MAX_WINDOW)
        name = "attention.sliding_window_pattern"
        pattern = self.metadata[self.key(name)] if name in self else default
        if (
            not isinstance(pattern, Sequence | np.ndarray)
            or len(pattern) != num_layers
            or not all(p in (0, 1) for p in pattern)
        ):
            raise self.wrong(name, f"a truth value for each of {num_layers} layers", f"{pattern!r:.64}")
        return tuple(window if is_windowed else None for is_windowed in pattern)

    def wrong(self, name: str, expected: str, got: object) -> InvalidModel:
        """The error to raise for a value that is not what it must be."""
        return InvalidModel(f"{self.key(name)}: expected {expected}, got {got}", param="model")

    def refuse_options(self, names: Iterable[str]) -> None:
        """Raise UnsupportedModel if an option that changes the forward is present and not 0."""
        for name in names:
            if name in self and (value := self.metadata[self.key(name)]) != 0:
                shown = f"{value!r:.64}"
                raise UnsupportedModel(f"{self.key(name)}: {shown} is not supported, only absent or 0", param="model")
