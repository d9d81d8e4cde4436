"""The reference's KV cache: one array of keys and one of values for each layer, in blocks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lepton_ai.backends.base import BLOCK_SIZE, Float32Array, Int32Array
from lepton_ai.graph.attrs import KVSpec, kv_groups
from lepton_ai.graph.tensor import DType

_DTYPES = {DType.F32: np.float32, DType.F16: np.float16}


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
        counts = [self.num_blocks[self.group_of_layer[layer]] * BLOCK_SIZE for layer in range(len(specs))]
        shapes = [((n, s.num_heads, s.head_dim), _DTYPES[s.dtype]) for n, s in zip(counts, specs, strict=True)]
        self._keys: list[npt.NDArray[np.floating]] = [np.zeros(shape, dtype) for shape, dtype in shapes]
        self._values: list[npt.NDArray[np.floating]] = [np.zeros(shape, dtype) for shape, dtype in shapes]

    @property
    def num_bytes(self) -> int:
        """Bytes held."""
        return sum(a.nbytes for a in (*self._keys, *self._values))

    def copy_block(self, group: int, source: int, target: int) -> None:
        """Write the content of a block over another, in all layers of a group."""
        to, of = (slice(b * BLOCK_SIZE, (b + 1) * BLOCK_SIZE) for b in (target, source))
        for layer, its_group in self.group_of_layer.items():
            if its_group == group:
                self._keys[layer][to] = self._keys[layer][of]
                self._values[layer][to] = self._values[layer][of]

    def write(self, layer: int, slots: Int32Array, keys: Float32Array, values: Float32Array) -> None:
        """Store ``[n, K, D]`` keys and values at ``slots`` ``[n]``, rounded to the layer's dtype."""
        with np.errstate(over="ignore"):
            self._keys[layer][slots] = keys
            self._values[layer][slots] = values

    def read(self, layer: int, slots: Int32Array) -> tuple[Float32Array, Float32Array]:
        """Keys and values at ``slots``, as f32."""
        return self._keys[layer][slots].astype(np.float32), self._values[layer][slots].astype(np.float32)


def slots_of(block_table: Int32Array, positions: Int32Array) -> Int32Array:
    """Where the tokens at ``positions`` of one sequence lie, by its row of the block table."""
    return block_table[positions // BLOCK_SIZE] * BLOCK_SIZE + positions % BLOCK_SIZE
