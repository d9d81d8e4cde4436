from __future__ import annotations

import numpy as np

from lepton_ai.backends.cpu.executable import CpuKVCache
from lepton_ai.backends.cpu.memory import MemoryBudget
from lepton_ai.graph.attrs import KVSpec
from lepton_ai.graph.tensor import DType


def test_a_block_is_copied_in_all_layers_of_its_group_alone() -> None:
    wide, narrow = KVSpec(2, 16, DType.F16), KVSpec(1, 32, DType.F32, window=64)
    cache = CpuKVCache([wide, narrow, wide], [4, 5], MemoryBudget())
    for region in cache._regions:
        region[:] = np.random.default_rng(1).integers(0, 256, region.shape)
    before = [region.copy() for region in cache._regions]
    cache.copy_block(0, 1, 3)
    sizes = [2 * 16 * wide.bytes_per_token, 16 * narrow.bytes_per_token]
    expected = before[0].copy()
    expected[3 * sizes[0] : 4 * sizes[0]] = before[0][sizes[0] : 2 * sizes[0]]
    assert np.array_equal(cache._regions[0], expected) and np.array_equal(cache._regions[1], before[1])
    cache.copy_block(1, 4, 0)
    assert np.array_equal(cache._regions[1][: sizes[1]], before[1][4 * sizes[1] : 5 * sizes[1]])
