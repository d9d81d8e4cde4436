from __future__ import annotations

import random

import numpy as np

from lepton_ai.engine.kv.block_pool import BlockHash, BlockPool
from lepton_ai.engine.kv.group import KVGroup
from lepton_ai.engine.kv.prefix_cache import block_hash, longest_hit, root_hash

HASHES = [BlockHash(bytes([n])) for n in range(12)]


def pool_of(known: set[int]) -> BlockPool:
    pool = BlockPool(len(HASHES))
    for index, block_id in enumerate(pool.allocate(len(HASHES))):
        if index in known:
            pool.register(block_id, HASHES[index])
    return pool


def test_hashes_depend_on_parent_tokens_and_salt() -> None:
    tokens = np.arange(16, dtype=np.int32)
    hashes: set[BlockHash] = {
        block_hash(root_hash(), tokens),
        block_hash(root_hash(), tokens[::-1].copy()),
        block_hash(root_hash(b"tenant"), tokens),
        block_hash(block_hash(root_hash(), tokens), tokens),
    }
    assert len(hashes) == 4
    assert block_hash(root_hash(), tokens) == block_hash(root_hash(), tokens.copy())


def test_a_window_needs_the_end_alone() -> None:
    window = KVGroup(12, 33)  # two blocks

    def hit(known: set[int]) -> int:
        return longest_hit([window], [pool_of(known)], HASHES)

    assert hit({10, 11}) == 12
    assert hit({3, 4, 11}) == 5
    assert hit({0, 2, 4}) == 1, "a prefix shorter than the window is needed whole"
    assert hit({1, 3, 5}) == 0


def test_it_is_the_longest_that_holds_in_every_group() -> None:
    rng = random.Random(0)
    for _ in range(500):
        windows = [rng.choice([None, 1, 2, 17, 33, 60]) for _ in range(rng.randint(1, 3))]
        groups = [KVGroup(12, window) for window in windows]
        known = [{n for n in range(12) if rng.random() < 0.8} for _ in groups]
        fitting = [
            length
            for length in range(13)
            if all(
                n in its
                for group, its in zip(groups, known, strict=True)
                for n in range(group.first_visible(16 * length), length)
            )
        ]
        assert longest_hit(groups, [pool_of(its) for its in known], HASHES) == max(fitting)
