from __future__ import annotations

import numpy as np

from lepton_ai.engine.block_pool import BlockHash
from lepton_ai.engine.kv_manager import KVManager, num_blocks_for
from lepton_ai.engine.prefix_cache import block_hash, root_hash
from lepton_ai.engine.request import Request
from lepton_ai.engine.sampling_params import SamplingParams


def request(prompt: list[int]) -> Request:
    return Request.create(np.array(prompt, np.int32), SamplingParams(), max_tokens=len(prompt) + 64)


def compute(kv: KVManager, made: Request, num_tokens: int) -> None:
    assert kv.extend(made, num_tokens)
    made.num_computed_tokens += num_tokens
    kv.commit(made)


def test_num_blocks_for() -> None:
    assert [num_blocks_for(n) for n in (0, 1, 16, 17, 32)] == [0, 1, 1, 2, 2]


def test_a_table_grows_only_when_a_block_is_full() -> None:
    kv = KVManager(1, 8)
    one = request(list(range(15)))
    kv.attach(one)
    compute(kv, one, 15)
    assert one.block_tables == ([0],)
    table = one.block_tables[0]
    compute(kv, one, 1)
    assert one.block_tables == ([0],)
    compute(kv, one, 1)
    assert one.block_tables == ([0, 1],) and one.block_tables[0] is table


def test_prefix_is_found_while_held_and_after_release() -> None:
    kv = KVManager(1, 8)
    prompt = list(range(40))
    first, second, third = (request(prompt) for _ in range(3))
    kv.attach(first)
    compute(kv, first, 40)
    kv.attach(second)
    assert second.block_tables == ([0, 1],) and second.num_computed_tokens == 32
    kv.release(first)
    kv.release(second)
    kv.check_integrity()
    kv.attach(third)
    assert third.block_tables == ([0, 1],)
    compute(kv, third, 8)
    assert third.block_tables == ([0, 1, 2],)


def test_the_last_token_is_always_left_to_compute() -> None:
    kv = KVManager(1, 8)
    first, second = request(list(range(32))), request(list(range(32)))
    kv.attach(first)
    compute(kv, first, 32)
    kv.attach(second)
    assert second.num_computed_tokens == 16


def test_another_beginning_is_another_prefix() -> None:
    kv = KVManager(1, 8)
    tail = list(range(100, 116))
    first, second = request([*range(16), *tail, 1]), request([*range(1, 17), *tail, 1])
    kv.attach(first)
    compute(kv, first, 33)
    kv.attach(second)
    assert second.block_tables == ([],) and second.num_computed_tokens == 0


def test_overwritten_content_is_not_found() -> None:
    kv = KVManager(1, 3)
    first, second, third = request(list(range(33))), request(list(range(50, 98))), request(list(range(33)))
    kv.attach(first)
    compute(kv, first, 33)
    kv.release(first)
    kv.attach(second)
    compute(kv, second, 48)
    kv.release(second)
    kv.attach(third)
    assert third.num_computed_tokens == 0


def test_extend_takes_all_or_nothing() -> None:
    kv = KVManager(2, 4)
    one = request(list(range(100)))
    kv.attach(one)
    assert not kv.extend(one, 65)
    assert one.block_tables == ([], [])
    assert kv.extend(one, 64)
    assert one.block_tables == ([0, 1, 2, 3], [0, 1, 2, 3])
    kv.check_integrity([one])


def test_a_hit_must_hold_in_every_group() -> None:
    kv = KVManager(2, 4)
    first, second = request(list(range(40))), request(list(range(40)))
    kv.attach(first)
    compute(kv, first, 40)
    kv.release(first)
    kv.pools[1].release(kv.pools[1].allocate(3))
    kv.attach(second)
    assert second.block_tables == ([0], [0])


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
