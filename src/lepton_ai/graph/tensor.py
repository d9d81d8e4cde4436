"""Symbols, shapes and tensors: what flows along the edges of a graph."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass


class DType(enum.Enum):
    """Element type of a tensor.

    ``Q8`` is a row-quantised activation: signed bytes with one f32 scale per group of ``Q8_GROUP`` along the last
    axis. Only ``quantize`` (or an op it was fused into) makes one and only ``linear`` reads one.
    """

    F32 = "f32"
    F16 = "f16"
    I32 = "i32"
    Q8 = "q8"


Q8_GROUP = 32
"""Elements that share one scale in a ``Q8`` activation."""


@dataclass(frozen=True, slots=True)
class Affine:
    """``constant + sum(coefficient * symbol)``: a dimension that is known only when a step runs."""

    terms: tuple[tuple[str, int], ...]
    constant: int = 0

    def evaluate(self, sizes: Mapping[str, int]) -> int:
        """The dimension for given symbol sizes. Raises KeyError for a symbol without a size."""
        return self.constant + sum(k * sizes[name] for name, k in self.terms)

    def __add__(self, other: Affine | int) -> Affine:
        if isinstance(other, int):
            return Affine(self.terms, self.constant + other)
        merged = dict(self.terms)
        for name, k in other.terms:
            merged[name] = merged.get(name, 0) + k
        terms = tuple(sorted((n, k) for n, k in merged.items() if k))
        return Affine(terms, self.constant + other.constant)

    def __mul__(self, factor: int) -> Affine:
        return Affine(tuple((n, k * factor) for n, k in self.terms if factor), self.constant * factor)

    __radd__ = __add__
    __rmul__ = __mul__

    def __str__(self) -> str:
        parts = [name if k == 1 else f"{k}{name}" for name, k in self.terms]
        if self.constant or not parts:
            parts.append(str(self.constant))
        return "+".join(parts)


Dim = int | Affine
Shape = tuple[Dim, ...]


def symbol(name: str) -> Affine:
    """A dimension named ``name``: ``T`` tokens in the step, ``R`` rows whose logits are wanted, ``S`` sequences."""
    return Affine(((name, 1),))


def evaluate_shape(shape: Shape, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """``shape`` with every symbol replaced by its size."""
    return tuple(d if isinstance(d, int) else d.evaluate(sizes) for d in shape)


def format_shape(shape: Shape) -> str:
    """``[T, 576]``."""
    return "[" + ", ".join(str(d) for d in shape) + "]"


@dataclass(frozen=True, slots=True)
class Tensor:
    """An edge of the graph: made by one node (or an input), read by any number."""

    id: int
    shape: Shape
    dtype: DType
    name: str


@dataclass(frozen=True, slots=True)
class Weight:
    """A tensor of the checkpoint, by name. ``shape`` is row-major: a linear weight is ``(num_outputs, num_inputs)``."""

    name: str
    shape: tuple[int, ...]
