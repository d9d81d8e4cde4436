"""Requests in a group with a sliding window beside one without: who makes room, who comes back, in which blocks."""

from __future__ import annotations

from tests.engine.test_scheduler import request, shape, step

from lepton_ai.config import Limits
from lepton_ai.engine.kv.group import KVGroup
from lepton_ai.engine.kv.manager import KVManager
from lepton_ai.engine.scheduling.scheduler import Scheduler


def scheduler(*groups: KVGroup, max_tokens: int = 32, max_seqs: int = 2) -> Scheduler:
    limits = Limits(max_tokens=max_tokens, max_rows=max_seqs, max_seqs=max_seqs, max_model_len=400)
    return Scheduler(KVManager(groups), limits)


def test_a_prompt_passes_through_a_pool_that_is_smaller_than_it() -> None:
    s = scheduler(KVGroup(20), KVGroup(6, 33))
    s.add(request(200, 4))
    (one,) = s.waiting
    tables = []
    for _ in range(6):
        assert shape(step(s)[0]) == [(0, 32, False)]
        tables.append((one.block_tables[1][-2:], one.num_dropped_blocks[1]))
    assert tables == [([0, 1], 0), ([2, 3], 2), ([4, 5], 4), ([0, 1], 6), ([2, 3], 8), ([4, 5], 10)]
    assert shape(step(s)[0]) == [(0, 8, True)]
    assert one.block_tables[1] == [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5, 0]
    assert one.block_tables[0] == list(range(13))
    assert s.stats().kv_blocks == 20 and s.stats().kv_blocks_used == 13


def test_who_made_room_comes_back_to_the_end_of_what_it_had() -> None:
    s = scheduler(KVGroup(9), KVGroup(8, 17))
    old, young = request(48, 40), request(62, 40, first=200)
    for each in (old, young):
        s.add(each)
    while not s.counters.num_preemptions:
        step(s)
    assert s.running == [old] and not young.block_tables
    # The end of the young one's prefix is next in the first group; in the second, the blocks that left windows are.
    assert [pool.free_block_ids() for pool in s._kv.pools] == [[7, 6, 5, 3], [1, 3, 5, 6, 2, 7]]
    assert s._kv.hit(young) == 4
    while old.finish_reason is None:
        step(s)
    assert shape(step(s)[0]) == [(1, 29, True)], "three blocks of it are there, and the window before their end"
    assert young.block_tables == ([3, 5, 6, 7, 8], [0, 0, 6, 1, 3]) and young.num_dropped_blocks == (0, 3)
    while s.has_work:
        step(s)
    assert s.counters.num_preemptions == 1
