from __future__ import annotations

import numpy as np

from lepton_ai.engine.kv.group import KVGroup
from lepton_ai.engine.kv.manager import KVManager
from lepton_ai.engine.request import Request
from lepton_ai.engine.sampling_params import SamplingParams


def request(prompt: list[int]) -> Request:
    return Request.create(np.array(prompt, np.int32), SamplingParams(), max_tokens=len(prompt) + 64)


def compute(kv: KVManager, made: Request, num_tokens: int) -> None:
    assert kv.extend(made, num_tokens)
    made.num_computed_tokens += num_tokens
    kv.commit(made)


def test_a_table_grows_only_when_a_block_is_full() -> None:
    kv = KVManager([KVGroup(8)])
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
    kv = KVManager([KVGroup(8)])
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


def computed_leader(kv: KVManager, num_tokens: int, num_siblings: int = 1) -> list[Request]:
    """A request whose prompt is computed, and siblings that have no blocks yet."""
    leader = request(list(range(num_tokens)))
    siblings = [leader.sibling(index) for index in range(1, num_siblings + 1)]
    kv.attach(leader)
    compute(kv, leader, num_tokens)
    return [leader, *siblings]


def test_siblings_share_a_prompt_and_copy_what_they_write() -> None:
    kv = KVManager([KVGroup(8)] * 2)
    leader, first, second = computed_leader(kv, 20, num_siblings=2)
    for sibling in (first, second):
        kv.attach(sibling)
        assert sibling.block_tables == ([0, 1], [0, 1]) and sibling.num_computed_tokens == 19
    table = first.block_tables[0]
    assert kv.num_wanted(first, 1) == 1, "a block to copy to"
    compute(kv, first, 1)
    assert first.block_tables == ([0, 2], [0, 2]) and first.block_tables[0] is not table
    assert kv.take_copies() == ((0, 1, 2), (1, 1, 2)) and kv.take_copies() == ()
    compute(kv, leader, 1)
    assert leader.block_tables == ([0, 3], [0, 3]), "the leader copies too while others hold the block"
    compute(kv, second, 1)
    assert second.block_tables == ([0, 1], [0, 1]), "the last one writes where it is"
    assert kv.take_copies() == ((0, 1, 3), (1, 1, 3))
    kv.check_integrity([leader, first, second])
    for each in (leader, first, second):
        kv.release(each)
    kv.check_integrity()


def test_a_copy_needs_a_free_block() -> None:
    kv = KVManager([KVGroup(2)])
    leader, sibling = computed_leader(kv, 20)
    kv.attach(sibling)
    assert not kv.extend(sibling, 1) and sibling.block_tables == ([0, 1],) and kv.take_copies() == ()
    kv.release(leader)
    assert kv.extend(sibling, 1) and sibling.block_tables == ([0, 1],)


def test_who_writes_to_what_its_leader_filled_makes_it_unknown() -> None:
    kv = KVManager([KVGroup(8)])
    leader, sibling = computed_leader(kv, 20)
    leader.append(7)
    compute(kv, leader, 12)
    kv.attach(sibling)
    assert sibling.block_tables == ([0, 1],), "block 1 is full of the leader's tokens, and known by them"
    hashes = list(leader.hashes)
    kv.release(leader)
    assert [kv.pools[0].lookup(content) for content in hashes] == [0, 1]
    compute(kv, sibling, 1)
    assert sibling.block_tables == ([0, 1],) and kv.take_copies() == ()
    assert [kv.pools[0].lookup(content) for content in hashes] == [0, None]
    sibling.append(8)
    compute(kv, sibling, 12)
    assert kv.pools[0].lookup(sibling.hashes[1]) == 1
    kv.check_integrity([sibling])


def test_a_prompt_of_whole_blocks_is_forked_too() -> None:
    kv = KVManager([KVGroup(8)])
    leader, sibling = computed_leader(kv, 32)
    kv.attach(sibling)
    compute(kv, sibling, 1)
    assert sibling.block_tables == ([0, 2],) and kv.take_copies() == ((0, 1, 2),)
    compute(kv, sibling, 17)
    assert sibling.block_tables == ([0, 2, 3, 4],)
    kv.check_integrity([leader, sibling])


def test_who_lost_its_leader_finds_the_prefix() -> None:
    kv = KVManager([KVGroup(8)])
    leader, sibling = computed_leader(kv, 40)
    kv.release(leader)
    kv.attach(sibling)
    assert sibling.block_tables == ([0, 1],) and sibling.num_computed_tokens == 32


def test_the_last_token_is_always_left_to_compute() -> None:
    kv = KVManager([KVGroup(8)])
    first, second = request(list(range(32))), request(list(range(32)))
    kv.attach(first)
    compute(kv, first, 32)
    kv.attach(second)
    assert second.num_computed_tokens == 16


def test_another_beginning_is_another_prefix() -> None:
    kv = KVManager([KVGroup(8)])
    tail = list(range(100, 116))
    first, second = request([*range(16), *tail, 1]), request([*range(1, 17), *tail, 1])
    kv.attach(first)
    compute(kv, first, 33)
    kv.attach(second)
    assert second.block_tables == ([],) and second.num_computed_tokens == 0


def test_overwritten_content_is_not_found() -> None:
    kv = KVManager([KVGroup(3)])
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
    kv = KVManager([KVGroup(4)] * 2)
    one = request(list(range(100)))
    kv.attach(one)
    assert not kv.extend(one, 65)
    assert one.block_tables == ([], [])
    assert kv.extend(one, 64)
    assert one.block_tables == ([0, 1, 2, 3], [0, 1, 2, 3])
    kv.check_integrity([one])


def test_a_hit_must_hold_in_every_group() -> None:
    kv = KVManager([KVGroup(4)] * 2)
    first, second = request(list(range(40))), request(list(range(40)))
    kv.attach(first)
    compute(kv, first, 40)
    kv.release(first)
    kv.pools[1].release(kv.pools[1].allocate(3))
    kv.attach(second)
    assert second.block_tables == ([0], [0])


def test_the_least_recently_used_content_is_overwritten_first() -> None:
    kv = KVManager([KVGroup(6)])
    prompts = [list(range(first, first + 40)) for first in (0, 100, 200)]
    for prompt in prompts[:2]:
        made = request(prompt)
        kv.attach(made)
        compute(kv, made, 40)
        kv.release(made)
    # First what holds no full block, then the end of the first prompt, its beginning, and the second prompt.
    assert kv.pools[0].free_block_ids() == [4, 5, 1, 0, 3, 2]
    third = request(prompts[2])
    kv.attach(third)
    compute(kv, third, 40)
    assert third.block_tables == ([1, 4, 5],)
    assert [kv.hit(request(prompt)) for prompt in prompts] == [1, 2, 2]
    again = request(prompts[0])
    kv.attach(again)
    compute(kv, again, 24)
    assert again.block_tables == ([0, 2, 3],)
    assert [kv.hit(request(prompt)) for prompt in prompts] == [2, 0, 2]
    kv.check_integrity([third, again])


def test_a_hit_makes_content_recent() -> None:
    kv = KVManager([KVGroup(4)])
    prompts = [list(range(first, first + 17)) for first in (0, 100)]
    for prompt in (*prompts, prompts[0]):
        made = request(prompt)
        kv.attach(made)
        compute(kv, made, 17 - made.num_computed_tokens)
        kv.release(made)
    assert kv.pools[0].free_block_ids() == [2, 3, 1, 0], "the block that was found again is overwritten last"
