"""Groups with a sliding window: what they give back, what is found again, and who shares it. Exact block ids."""

from __future__ import annotations

from tests.engine.test_kv_manager import compute, computed_leader, request

from lepton_ai.engine.kv.group import KVGroup
from lepton_ai.engine.kv.manager import KVManager

PROMPT = list(range(100))


def test_blocks_that_left_the_window_are_given_back() -> None:
    kv = KVManager([KVGroup(8, 33)])
    one = request(PROMPT)
    kv.attach(one)
    compute(kv, one, 47)
    assert (one.block_tables, one.num_dropped_blocks) == (([0, 1, 2],), (0,))
    table = one.block_tables[0]
    compute(kv, one, 1)
    assert one.num_dropped_blocks == (1,), "the token at 48 sees the last 32 before it"
    assert kv.pools[0].free_block_ids() == [3, 4, 5, 6, 7, 0]
    compute(kv, one, 15)
    assert one.num_dropped_blocks == (1,), "the next full block may be where a prefix ends"
    compute(kv, one, 17)
    assert (one.block_tables, one.num_dropped_blocks) == (([0, 1, 2, 3, 4],), (3,))
    assert one.block_tables[0] is table, "entries stay where they are"
    assert kv.pools[0].free_block_ids() == [5, 6, 7, 0, 1, 2]
    kv.check_integrity([one])
    kv.release(one)
    assert not one.num_dropped_blocks
    assert kv.pools[0].free_block_ids() == [5, 6, 7, 0, 1, 2, 4, 3]
    kv.check_integrity()


def test_blocks_of_one_long_step_are_overwritten_from_the_front() -> None:
    kv = KVManager([KVGroup(8, 33)])
    one = request(PROMPT)
    kv.attach(one)
    compute(kv, one, 96)
    assert (one.block_tables, one.num_dropped_blocks) == (([0, 1, 2, 3, 4, 5],), (4,))
    assert kv.pools[0].free_block_ids() == [6, 7, 0, 1, 2, 3]


def test_what_it_gave_back_a_request_may_get_again() -> None:
    kv = KVManager([KVGroup(4, 17)])
    one = request(PROMPT)
    kv.attach(one)
    for _ in range(6):
        compute(kv, one, 16)
    assert one.block_tables == ([0, 1, 2, 3, 0, 1],)
    kv.check_integrity([one])


def test_a_hit_needs_the_end_of_the_prefix_alone() -> None:
    kv = KVManager([KVGroup(8), KVGroup(8, 33)])
    first, second = request(PROMPT), request(PROMPT)
    kv.attach(first)
    compute(kv, first, 90)
    kv.release(first)
    assert kv.pools[1].free_block_ids() == [5, 6, 7, 0, 1, 2, 4, 3]
    kv.pools[1].release(kv.pools[1].allocate(6))  # the beginning is overwritten
    assert kv.hit(second) == 5
    kv.attach(second)
    assert second.block_tables == ([0, 1, 2, 3, 4], [0, 0, 0, 3, 4]) and second.num_computed_tokens == 80
    assert second.num_dropped_blocks == (0, 3)
    kv.check_integrity([second])
    compute(kv, second, 20)
    assert second.block_tables[1][3:5] == [3, 4] and len(second.block_tables[1]) == 7
    assert second.num_dropped_blocks == (0, 4), "what it found leaves its window too"
    kv.check_integrity([second])


def test_a_shorter_prefix_is_found_while_its_end_is_there() -> None:
    kv = KVManager([KVGroup(8), KVGroup(8, 33)])
    first = request(PROMPT)
    kv.attach(first)
    compute(kv, first, 80)
    kv.release(first)
    kv.pools[0].release(kv.pools[0].allocate(4))  # of the whole, the last block is gone
    second = request(PROMPT)
    kv.attach(second)
    assert second.block_tables == ([0, 1, 2, 3], [0, 0, 2, 3]) and second.num_dropped_blocks == (0, 2)
    kv.release(second)
    kv.pools[1].release(kv.pools[1].allocate(6))  # 5, 6, 7, 0, 1 and 4: blocks 2 and 3 stay
    assert kv.hit(second) == 4
    kv.pools[1].release(kv.pools[1].allocate(7))
    assert kv.hit(second) == 0, "the window before the end is not whole"


def test_a_fork_shares_what_the_window_shows() -> None:
    kv = KVManager([KVGroup(10), KVGroup(10, 33)])
    leader, sibling = computed_leader(kv, 68)
    assert leader.num_dropped_blocks == (0, 2)
    kv.attach(sibling)
    assert sibling.block_tables == ([0, 1, 2, 3, 4], [0, 1, 2, 3, 4]) and sibling.num_dropped_blocks == (0, 2)
    kv.check_integrity([leader, sibling])
    compute(kv, sibling, 1)
    assert sibling.block_tables == ([0, 1, 2, 3, 5], [0, 1, 2, 3, 5])
    assert kv.take_copies() == ((0, 4, 5), (1, 4, 5))
    for each in (leader, sibling):
        compute(kv, each, 12)
        assert each.num_dropped_blocks == (0, 3)
    kv.check_integrity([leader, sibling])
    assert kv.pools[1].is_free(2), "both have left it behind"
    for each in (leader, sibling):
        kv.release(each)
    kv.check_integrity()


def test_a_fork_finds_what_its_leader_has_left_behind() -> None:
    kv = KVManager([KVGroup(8, 17)])
    leader, first, second = computed_leader(kv, 64, num_siblings=2)
    assert leader.num_dropped_blocks == (3,)
    kv.attach(first)  # the last token of the prompt, at 63, sees 47
    assert (first.block_tables, first.num_dropped_blocks) == (([0, 1, 2, 3],), (2,))
    kv.check_integrity([leader, first])
    kv.release(first)
    kv.pools[0].release(kv.pools[0].allocate(7))
    kv.attach(second)
    assert (second.block_tables, second.num_computed_tokens) == (([],), 0), "its content is gone: it starts again"
    kv.check_integrity([leader, second])


def test_who_forks_late_finds_the_prefix_instead() -> None:
    kv = KVManager([KVGroup(12, 33)])
    leader, sibling = computed_leader(kv, 68)
    compute(kv, leader, 64)
    assert leader.num_dropped_blocks == (6,), "the end of the prompt too, now followed by other tokens"
    kv.attach(sibling)
    assert (sibling.block_tables, sibling.num_computed_tokens) == (([0, 0, 2, 3],), 64)
    kv.check_integrity([leader, sibling])


def test_a_block_is_copied_in_the_groups_where_others_hold_it() -> None:
    kv = KVManager([KVGroup(8), KVGroup(8, 17)])
    leader, sibling = computed_leader(kv, 32)
    kv.attach(sibling)
    compute(kv, leader, 32)
    assert (leader.num_dropped_blocks, sibling.num_dropped_blocks) == ((0, 3), (0, 0))
    assert kv.num_wanted(sibling, 1) == 1
    compute(kv, sibling, 1)
    assert sibling.block_tables == ([0, 4], [0, 1]) and kv.take_copies() == ((0, 1, 4),)
    kv.check_integrity([leader, sibling])


def test_the_fullest_pool_is_that_with_the_largest_share_held() -> None:
    kv = KVManager([KVGroup(100), KVGroup(8, 33)])
    assert kv.fullest is kv.pools[0]
    one = request(PROMPT)
    kv.attach(one)
    compute(kv, one, 90)
    assert kv.fullest is kv.pools[1]
    assert (kv.fullest.num_held, kv.fullest.num_blocks, kv.pools[0].num_held) == (3, 8, 6)
