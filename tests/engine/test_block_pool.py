from __future__ import annotations

import pytest

from lepton_ai.engine.kv.block_pool import BlockHash, BlockPool

A, B, C = BlockHash(b"a"), BlockHash(b"b"), BlockHash(b"c")


def test_blocks_are_handed_out_in_order() -> None:
    pool = BlockPool(4)
    assert pool.allocate(2) == [0, 1]
    assert pool.free_block_ids() == [2, 3]
    assert pool.num_free == 2


def test_released_blocks_without_content_are_reused_first() -> None:
    pool = BlockPool(4)
    table = pool.allocate(3)
    pool.release(table)
    assert pool.free_block_ids() == [0, 1, 2, 3]
    pool.check_integrity()


def test_known_content_is_kept_longest_and_a_prefix_outlives_its_end() -> None:
    pool = BlockPool(4)
    table = pool.allocate(3)
    pool.register(table[0], A)
    pool.register(table[1], B)
    pool.release(table)
    assert pool.free_block_ids() == [2, 3, 1, 0]
    assert pool.allocate(3) == [1, 2, 3]
    assert pool.lookup(B) is None and pool.lookup(A) == 0


def test_blocks_may_be_released_so_that_the_first_goes_first() -> None:
    pool = BlockPool(4)
    table = pool.allocate(3)
    for block_id, content in zip(table, (A, B, C), strict=True):
        pool.register(block_id, content)
    pool.share([1])
    pool.release_in_order(table)
    assert pool.free_block_ids() == [3, 0, 2], "block 1 is held"
    pool.release([1])
    assert pool.free_block_ids() == [3, 0, 2, 1]
    assert pool.allocate(2) == [0, 3]
    assert [pool.lookup(content) for content in (A, B, C)] == [None, 1, 2]


def test_content_is_looked_up_in_order() -> None:
    pool = BlockPool(4)
    for block_id, content in zip(pool.allocate(3), (A, B, C), strict=True):
        pool.register(block_id, content)
    assert pool.num_known([A, B, C]) == 3 and pool.num_known([]) == 0
    assert pool.num_known([B, A, BlockHash(b"other"), C]) == 2
    assert pool.blocks_of([C, A]) == [2, 0]


def test_sharing_takes_a_free_block_back_with_its_content() -> None:
    pool = BlockPool(3)
    (block,) = pool.allocate(1)
    pool.register(block, A)
    pool.release([block])
    assert pool.is_free(block)
    pool.share([block])
    pool.share([block])
    assert pool.free_block_ids() == [1, 2]
    pool.release([block])
    assert not pool.is_free(block)
    pool.check_integrity([[block]])


def test_equal_content_is_known_once() -> None:
    pool = BlockPool(3)
    first, second = pool.allocate(2)
    pool.register(first, A)
    pool.register(second, A)
    assert pool.lookup(A) == first
    pool.release([second])
    assert pool.free_block_ids() == [second, 2]
    pool.check_integrity([[first]])


def test_misuse_is_caught() -> None:
    pool = BlockPool(2)
    table = pool.allocate(2)
    with pytest.raises(AssertionError, match="1 blocks wanted, 0 free"):
        pool.allocate(1)
    pool.release(table)
    with pytest.raises(AssertionError, match="released twice"):
        pool.release([0])


def test_check_integrity_sees_a_leak() -> None:
    pool = BlockPool(2)
    table = pool.allocate(1)
    pool.check_integrity([table])
    with pytest.raises(AssertionError, match="reference counts"):
        pool.check_integrity([])
