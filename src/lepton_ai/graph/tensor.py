"""Symbols, shapes and tensors: what flows along the edges of a graph."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass


class DType(enum.Enum):
    """Element type of a tensor.

    ``Q8`` is a row-quantised activation: signed bytes with one f32 scale per group of ``Q8_GROUP`` along the last
    axis. ``Q16`` is two such rows: the second has in 256ths what the first left over, and both make one integer. Only
    ``quantize`` (or an op it was fused into) makes one; only ops that multiply by a weight matrix read one. ``R8`` is
    one row whose blocks of ``ROTATION`` were rotated first, and share a scale; so were those of the matrix. ``R8_ROW``
    was rotated as a whole, and has one scale. ``BF16``, ``I8`` and ``I16`` are in the KV cache only
    (``graph.attrs.KVSpec``).
    """

    F32 = "f32"
    F16 = "f16"
    BF16 = "bf16"
    I8 = "int8"
    I16 = "int16"
    I32 = "i32"
    Q8 = "q8"
    Q16 = "q16"
    R8 = "r8"
    R8_ROW = "r8row"

    @property
    def num_terms(self) -> int:
        """Rows of 8-bit integers that make one row of this type; 0 for types that are not quantised."""
        if self is DType.Q8 or self.is_rotated:
            return 1
        return 2 if self is DType.Q16 else 0

    @property
    def is_rotated(self) -> bool:
        """Whether blocks of ``ROTATION`` elements were rotated."""
        return self in (DType.R8, DType.R8_ROW)

    @property
    def itemsize(self) -> int:
        """Bytes of one element; for quantised types of its integers alone, without the groups' scales and sums."""
        return self.num_terms or {DType.I8: 1, DType.I16: 2, DType.F16: 2, DType.BF16: 2}.get(self, 4)


Q8_GROUP = 32
"""Elements that share one scale in a ``Q8`` activation."""

ROTATION = 128
"""Elements that are rotated together; they share one scale in an ``R8`` activation."""

MAX_ROTATED_ROW = 1 << 16
"""Elements of the longest ``R8_ROW``: sums of products of as many codes are 32-bit integers."""

_Q8_GROUP_BYTES = 48

ROW_ALIGNMENT = 64
"""Rows of a matrix start at multiples of this many bytes: a cache line, and the widest vector register."""


def round_up(value: int, multiple: int) -> int:
    """The smallest multiple of ``multiple`` that is at least ``value``."""
    return -(-value // multiple) * multiple


def q8_row_bytes(num_columns: int) -> int:
    """Bytes of one ``Q8`` row of ``num_columns`` elements; every backend that shares rows lays them out so.

    For each group of ``Q8_GROUP`` columns (the last one filled up with zeros): ``int8 q[32]``, ``f32 scale``,
    ``f32 scaled_sum`` (scale times the sum of ``q``), ``i32 offset`` and ``i32 first_half`` (-8 times the sum of ``q``,
    and of its first 16); in the second row of ``Q16``, sums are those of the whole integers. After the last group,
    padding to ``ROW_ALIGNMENT``. Of four groups of ``R8``, the first has the scale and the offset of all.
    """
    return round_up(_Q8_GROUP_BYTES * -(-num_columns // Q8_GROUP), ROW_ALIGNMENT)


def row_bytes(dtype: DType, num_columns: int) -> int:
    """Bytes from one row of a matrix to the next."""
    if dtype is DType.R8_ROW:  # codes, then f32 scale and i32 offset
        return num_columns + ROW_ALIGNMENT
    if dtype.num_terms:
        return dtype.num_terms * q8_row_bytes(num_columns)
    return round_up(num_columns * dtype.itemsize, ROW_ALIGNMENT)


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
