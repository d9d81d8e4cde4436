"""Keys and values in memory, in runs of blocks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lepton_ai.backends.base import BLOCK_SIZE
from lepton_ai.backends.cpu import _native
from lepton_ai.backends.cpu.memory import MemoryBudget
from lepton_ai.graph.attrs import KVSpec, kv_groups

assert BLOCK_SIZE == _native.BLOCK_TOKENS

_MIN_RUN_BLOCKS, _MAX_RUN_BLOCKS = 8, 16


class CpuKVCache:
    """Blocks of every layer; pages of the operating system are taken when a block is first written.

    A group has one region ``[run][layer][head][block of the run]``. The blocks of a head follow each other in a run, so
    that what one thread reads is a stream; a run holds all layers, so that few blocks in use touch few pages.
    """

    def __init__(self, specs: Sequence[KVSpec], num_blocks: Sequence[int], memory: MemoryBudget) -> None:
        self.num_blocks = tuple(num_blocks)
        self._regions: list[npt.NDArray[np.uint8]] = []
        addresses, strides, runs, counts = ([0] * len(specs) for _ in range(4))
        for (spec, layers), count in zip(kv_groups(specs).items(), num_blocks, strict=True):
            run_blocks = _run_blocks(count)
            head_bytes = BLOCK_SIZE * spec.bytes_per_token // spec.num_heads
            shape = -(-count // run_blocks), len(layers), spec.num_heads, run_blocks, head_bytes
            region = memory.zeros(int(np.prod(shape, dtype=np.int64)), "keys and values").reshape(shape)
            for index, layer in enumerate(layers):
                addresses[layer] = region[0, index].ctypes.data
                strides[layer], runs[layer], counts[layer] = region.strides[0], run_blocks, count
            self._regions.append(region)
        self.native = _native.KVBlocks(addresses=addresses, strides=strides, run_blocks=runs, num_blocks=counts)

    @property
    def num_bytes(self) -> int:
        """Bytes reserved."""
        return sum(region.nbytes for region in self._regions)

    def block(self, group: int, index: int) -> npt.NDArray[np.uint8]:
        """A view of a block: the bytes ``[layer][head]`` of its group."""
        region = self._regions[group]
        run, place = divmod(index, region.shape[3])
        return region[run, :, :, place]

    def copy_block(self, group: int, source: int, target: int) -> None:
        """All layers of its group."""
        self.block(group, target)[:] = self.block(group, source)


def _run_blocks(count: int) -> int:
    """Blocks of a run, as many as may be of those lengths whose last run leaves least over."""
    if count <= _MAX_RUN_BLOCKS:
        return count
    return min(range(_MAX_RUN_BLOCKS, _MIN_RUN_BLOCKS - 1, -1), key=lambda run: -count % run)
