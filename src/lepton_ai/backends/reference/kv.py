"""The reference's KV cache: keys and values of each layer in blocks, in the layer's dtype."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from lepton_ai.backends.base import BLOCK_SIZE, Float32Array, Int32Array
from lepton_ai.backends.reference.weights import quantize_groups, quantize_wide, rotate
from lepton_ai.graph.attrs import KVSpec, kv_groups
from lepton_ai.graph.tensor import DType

Float64Array = npt.NDArray[np.float64]

_FLOATS = {DType.F32: np.float32, DType.F16: np.float16}


class Heads(Protocol):
    """Heads ``[num_blocks * BLOCK_SIZE, K, D]`` as a layer keeps its keys, or its values."""

    @property
    def arrays(self) -> Sequence[npt.NDArray[np.generic]]:
        """What is kept; the first axis is that of blocks."""
        ...

    def write(self, slots: Int32Array, heads: Float32Array) -> None:
        """Store ``[n, K, D]`` at ``slots`` ``[n]``."""
        ...

    def read(self, slots: Int32Array) -> Float64Array:
        """What they stand for, exactly."""
        ...


class FloatHeads:
    """Heads as f32 or f16."""

    def __init__(self, spec: KVSpec, num_blocks: int) -> None:
        shape = num_blocks, BLOCK_SIZE, spec.num_heads, spec.head_dim
        self._values: npt.NDArray[np.floating] = np.zeros(shape, _FLOATS[spec.dtype])

    @property
    def arrays(self) -> Sequence[npt.NDArray[np.generic]]:
        """The values."""
        return (self._values,)

    def write(self, slots: Int32Array, heads: Float32Array) -> None:
        """Round to the dtype."""
        with np.errstate(over="ignore"):
            self._values[_places(slots)] = heads

    def read(self, slots: Int32Array) -> Float64Array:
        """The values, wider."""
        return self._values[_places(slots)].astype(np.float64)


class BFloatHeads:
    """Heads as bf16: the upper halves of f32, rounded to the nearest, ties to even."""

    def __init__(self, spec: KVSpec, num_blocks: int) -> None:
        self._halves = np.zeros((num_blocks, BLOCK_SIZE, spec.num_heads, spec.head_dim), np.uint16)

    @property
    def arrays(self) -> Sequence[npt.NDArray[np.generic]]:
        """The halves."""
        return (self._halves,)

    def write(self, slots: Int32Array, heads: Float32Array) -> None:
        """Round."""
        bits = np.ascontiguousarray(heads, np.float32).view(np.uint32)
        rounded = np.where(np.isnan(heads), bits | 0x400000, bits + 0x7FFF + (bits >> 16 & 1))
        self._halves[_places(slots)] = (rounded >> 16).astype(np.uint16)

    def read(self, slots: Int32Array) -> Float64Array:
        """The values, wider."""
        bits = self._halves[_places(slots)].astype(np.uint32) << 16
        return bits.view(np.float32).astype(np.float64)


class CodedHeads:
    """Rotated heads as 8-bit codes with a scale each, by the rule of ``graph.attrs.KVSpec``.

    ``codes`` ``[num_blocks, BLOCK_SIZE, K, D]`` and ``scales`` ``[num_blocks, BLOCK_SIZE, K]``.
    """

    def __init__(self, spec: KVSpec, num_blocks: int) -> None:
        self.codes = np.zeros((num_blocks, BLOCK_SIZE, spec.num_heads, spec.head_dim), np.int8)
        self.scales = np.zeros((num_blocks, BLOCK_SIZE, spec.num_heads), np.float32)
        self._rotation = spec.rotation

    @property
    def arrays(self) -> Sequence[npt.NDArray[np.generic]]:
        """Codes and scales."""
        return self.codes, self.scales

    def write(self, slots: Int32Array, heads: Float32Array) -> None:
        """Rotate and quantise."""
        self._quantise(_places(slots), rotate(heads, self._rotation))

    def read(self, slots: Int32Array) -> Float64Array:
        """Codes times scales: rotated still."""
        places = _places(slots)
        return self.codes[places].astype(np.float64) * self.scales[places][..., None]

    def _quantise(self, places: tuple[Int32Array, Int32Array], rotated: Float32Array) -> None:
        self.codes[places], self.scales[places] = quantize_groups(rotated)


class WideCodedHeads:
    """Heads as 16-bit codes with a scale each: ``codes`` and ``scales`` as those of ``CodedHeads``."""

    def __init__(self, spec: KVSpec, num_blocks: int) -> None:
        self.codes = np.zeros((num_blocks, BLOCK_SIZE, spec.num_heads, spec.head_dim), np.int16)
        self.scales = np.zeros((num_blocks, BLOCK_SIZE, spec.num_heads), np.float32)

    @property
    def arrays(self) -> Sequence[npt.NDArray[np.generic]]:
        """Codes and scales."""
        return self.codes, self.scales

    def write(self, slots: Int32Array, heads: Float32Array) -> None:
        """Quantise."""
        places = _places(slots)
        self.codes[places], self.scales[places] = quantize_wide(heads)

    def read(self, slots: Int32Array) -> Float64Array:
        """Codes times scales."""
        places = _places(slots)
        return self.codes[places].astype(np.float64) * self.scales[places][..., None]


class CodedKeys(CodedHeads):
    """The same, each less the base of its block: ``base_codes`` ``[num_blocks, K, D]``, ``base_scales`` ``[num_blocks,
    K]``. The first token of a block is written before the others, or with them.
    """

    def __init__(self, spec: KVSpec, num_blocks: int) -> None:
        super().__init__(spec, num_blocks)
        self.base_codes = np.zeros((num_blocks, spec.num_heads, spec.head_dim), np.int8)
        self.base_scales = np.zeros((num_blocks, spec.num_heads), np.float32)

    @property
    def arrays(self) -> Sequence[npt.NDArray[np.generic]]:
        """Codes and scales; those of bases."""
        return self.codes, self.scales, self.base_codes, self.base_scales

    def read(self, slots: Int32Array) -> Float64Array:
        """Codes times scales and bases: rotated still."""
        blocks, _ = _places(slots)
        bases = self.base_codes[blocks].astype(np.float64) * self.base_scales[blocks][..., None]
        return bases + super().read(slots)

    def _quantise(self, places: tuple[Int32Array, Int32Array], rotated: Float32Array) -> None:
        blocks, offsets = places
        is_first = offsets == 0
        self.base_codes[blocks[is_first]], self.base_scales[blocks[is_first]] = quantize_groups(rotated[is_first])
        bases = self.base_codes[blocks].astype(np.float32) * self.base_scales[blocks][..., None]
        with np.errstate(invalid="ignore"):
            super()._quantise(places, rotated - bases)


_FORMS: Mapping[DType, tuple[Callable[[KVSpec, int], Heads], Callable[[KVSpec, int], Heads]]] = {
    DType.BF16: (BFloatHeads, BFloatHeads),
    DType.I8: (CodedKeys, CodedHeads),
    DType.I16: (WideCodedHeads, WideCodedHeads),
}
"""What keeps keys, and values."""


class ReferenceKVCache:
    """Keys and values ``[num_blocks * BLOCK_SIZE, K, D]`` of layers 0, 1, ..., each in its spec's dtype.

    ``num_blocks`` are those of each KV group.
    """

    def __init__(self, specs: Sequence[KVSpec], num_blocks: Sequence[int]) -> None:
        self.specs = tuple(specs)
        self.num_blocks = tuple(num_blocks)
        assert len(self.num_blocks) == len(kv_groups(specs)), "expected a number of blocks for each group"
        self.group_of_layer = {
            layer: index for index, layers in enumerate(kv_groups(specs).values()) for layer in layers
        }
        self._keys: list[Heads] = []
        self._values: list[Heads] = []
        for layer, spec in enumerate(specs):
            count = self.num_blocks[self.group_of_layer[layer]]
            keys, values = _FORMS.get(spec.dtype, (FloatHeads, FloatHeads))
            self._keys.append(keys(spec, count))
            self._values.append(values(spec, count))

    @property
    def num_bytes(self) -> int:
        """Bytes held."""
        return sum(array.nbytes for heads in (*self._keys, *self._values) for array in heads.arrays)

    def copy_block(self, group: int, source: int, target: int) -> None:
        """Write the content of a block over another, in all layers of a group."""
        for layer, its_group in self.group_of_layer.items():
            if its_group == group:
                for array in (*self._keys[layer].arrays, *self._values[layer].arrays):
                    array[target] = array[source]

    def write(self, layer: int, slots: Int32Array, keys: Float32Array, values: Float32Array) -> None:
        """Store ``[n, K, D]`` keys and values at ``slots`` ``[n]``, rounded to the layer's dtype."""
        self._keys[layer].write(slots, keys)
        self._values[layer].write(slots, values)

    def read(self, layer: int, slots: Int32Array) -> tuple[Float64Array, Float64Array]:
        """Keys and values at ``slots``, exactly; those of ``I8`` are rotated."""
        return self._keys[layer].read(slots), self._values[layer].read(slots)


def _places(slots: Int32Array) -> tuple[Int32Array, Int32Array]:
    """Blocks, and places in them."""
    return slots // BLOCK_SIZE, slots % BLOCK_SIZE


def slots_of(block_table: Int32Array, positions: Int32Array) -> Int32Array:
    """Where the tokens at ``positions`` of one sequence lie, by its row of the block table."""
    return block_table[positions // BLOCK_SIZE] * BLOCK_SIZE + positions % BLOCK_SIZE
