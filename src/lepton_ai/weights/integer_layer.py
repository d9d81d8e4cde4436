"""Matrices of integers with a scale and a zero point for each group of inputs, whatever lays them out in a file.

``value = scale * (code - zero_point)``. A layer gives its rows in one form, and they become blocks of a storage type
(``weights/formats.py``) when they are read: one matrix, some rows at a time, so that a model is never held twice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from lepton_ai.errors import UnsupportedModel
from lepton_ai.weights.files import shown
from lepton_ai.weights.formats import WeightType

Bytes = npt.NDArray[np.uint8]
SignedBytes = npt.NDArray[np.int8]
Floats = npt.NDArray[np.float32]
Words = npt.NDArray[np.uint32]

BLOCK_ELEMENTS: Final = (128, 32)
"""Inputs that may share a block, the larger number first: it takes fewer bytes for scales."""

_CHUNK_BYTES: Final = 1 << 20
"""Bytes of codes that are laid out at a time: they stay in the second-level cache."""

_TYPES: Final = {
    (4, 32): WeightType.INT4_G32,
    (4, 128): WeightType.INT4_G128,
    (8, 32): WeightType.INT8_G32,
    (8, 128): WeightType.INT8_G128,
}


@dataclass(frozen=True, slots=True)
class IntegerForm:
    """The geometry of a layer: ``bits`` (4 or 8) of a code, and ``group`` consecutive inputs share a scale.

    The last group may be shorter. Raises UnsupportedModel, naming ``label``, for what no storage type holds.
    """

    label: str
    num_outputs: int
    num_inputs: int
    bits: int
    group: int

    def __post_init__(self) -> None:
        if self.num_inputs % 32 or (self.group % 32 and self.group != self.num_inputs):
            sizes = f"{self.num_inputs} in groups of {self.group}"
            raise UnsupportedModel(
                f"{shown(self.label)}: inputs: expected groups of a multiple of 32, got {sizes}", param="model"
            )

    @property
    def num_groups(self) -> int:
        """Groups of a row."""
        return -(-self.num_inputs // self.group)

    @property
    def middle(self) -> int:
        """The code that stands for zero without a zero point."""
        return 1 << (self.bits - 1)

    @property
    def type(self) -> WeightType:
        """The storage type whose blocks divide rows and groups."""
        elements = next(n for n in BLOCK_ELEMENTS if self.num_inputs % n == 0 and (self.group % n == 0))
        return _TYPES[self.bits, elements]


@dataclass(frozen=True, slots=True)
class IntegerRows:
    """Some rows of a layer: unsigned ``codes`` ``[n, inputs * bits / 8]``, those of four bits in pairs, the first in
    the low half; ``scales`` and ``zero_points``, less the middle, ``[n, groups]``.
    """

    codes: Bytes
    scales: Floats
    zero_points: SignedBytes


class IntegerLayer(Protocol):
    """One quantised matrix of a checkpoint."""

    @property
    def form(self) -> IntegerForm:
        """Its geometry."""
        ...

    def rows(self, first: int, count: int) -> IntegerRows:
        """``count`` rows from ``first`` on."""
        ...


@dataclass(frozen=True, slots=True)
class LayerRows:
    """``count`` rows of a layer from ``first`` on, as blocks of its storage type; it implements ``store.RowSource``."""

    layer: IntegerLayer
    first: int
    count: int

    def part(self, first: int, count: int) -> LayerRows:
        """``count`` of these rows, from ``first`` on."""
        assert 0 <= first <= first + count <= self.count
        return replace(self, first=self.first + first, count=count)

    def read(self) -> Bytes:
        """The bytes of all rows."""
        form = self.layer.form
        elements, size = form.type.block_elements, form.type.block_bytes
        blocks = np.empty((self.count, form.num_inputs // elements, size), np.uint8)
        groups = np.arange(blocks.shape[1]) * elements // form.group
        step = max(1, _CHUNK_BYTES * 8 // (form.num_inputs * form.bits))
        for start in range(0, self.count, step):
            chunk = blocks[start : start + step]
            rows = self.layer.rows(self.first + start, len(chunk))
            chunk[..., :4] = rows.scales[:, groups, np.newaxis].astype("<f4").view(np.uint8)
            chunk[..., 4] = rows.zero_points[:, groups].view(np.uint8)
            chunk[..., 5:] = rows.codes.reshape(*chunk.shape[:2], size - 5)
        return blocks.reshape(-1)


def unpack_words(words: Words, bits: int) -> Bytes:
    """The unsigned integers ``[..., n * 32 / bits]`` that stand in words ``[..., n]``, the lowest bits first."""
    octets = np.ascontiguousarray(words, "<u4").view(np.uint8)
    if bits == 8:
        return octets
    return np.stack([octets & 15, octets >> 4], axis=-1).reshape(*octets.shape[:-1], -1)


def words_that_hold(first: int, count: int, bits: int) -> tuple[slice, slice]:
    """The words that hold ``count`` packed integers from ``first`` on, and these integers among all of theirs."""
    per_word = 32 // bits
    start, stop = first // per_word, -(-(first + count) // per_word)
    return slice(start, stop), slice(first - start * per_word, first - start * per_word + count)
