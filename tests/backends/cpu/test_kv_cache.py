from __future__ import annotations

import numpy as np
import pytest

from lepton_ai.backends.cpu.kv_cache import CpuKVCache
from lepton_ai.backends.cpu.memory import MemoryBudget
from lepton_ai.graph.attrs import KVSpec
from lepton_ai.graph.tensor import DType


def test_a_block_is_copied_in_all_layers_of_its_group_alone() -> None:
    wide, narrow = KVSpec(2, 16, DType.F16), KVSpec(1, 32, DType.F32, window=64)
    cache = CpuKVCache([wide, narrow, wide], [40, 5], MemoryBudget())
    for region in cache._regions:
        region[:] = np.random.default_rng(1).integers(0, 256, region.shape)
    before = [[cache.block(group, i).copy() for i in range(count)] for group, count in enumerate(cache.num_blocks)]
    assert before[0][0].nbytes == 2 * 16 * wide.bytes_per_token and before[1][0].nbytes == 16 * narrow.bytes_per_token
    cache.copy_block(0, 1, 33)
    before[0][33] = before[0][1]
    cache.copy_block(1, 4, 0)
    before[1][0] = before[1][4]
    for group, blocks in enumerate(before):
        for index, block in enumerate(blocks):
            assert np.array_equal(cache.block(group, index), block), (group, index)


@pytest.mark.parametrize(
    ("count", "run", "reserved"), [(1, 1, 1), (15, 15, 15), (16, 16, 16), (17, 9, 18), (100, 10, 100)]
)
def test_runs_leave_little_over(count: int, run: int, reserved: int) -> None:
    spec = KVSpec(2, 16, DType.F16)
    cache = CpuKVCache([spec], [count], MemoryBudget())
    assert cache.num_bytes == reserved * 16 * spec.bytes_per_token
    assert not np.shares_memory(cache.block(0, 0), cache.block(0, count - 1)) or count == 1
    assert cache._regions[0].shape[3] == run
