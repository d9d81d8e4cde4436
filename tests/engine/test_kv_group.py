from __future__ import annotations

import sys

import pytest
from tests.engine.test_scheduler import request, step

from lepton_ai.config import Limits
from lepton_ai.engine.kv.group import KVGroup, most_held, most_useful, num_blocks_for
from lepton_ai.engine.kv.manager import KVManager
from lepton_ai.engine.scheduling.scheduler import Scheduler
from lepton_ai.errors import OutOfMemory


def test_num_blocks_for() -> None:
    assert [num_blocks_for(n) for n in (0, 1, 16, 17, 32)] == [0, 1, 1, 2, 2]


@pytest.mark.parametrize("window", [1, 2, 16, 17, 18, 33, 512])
def test_the_first_visible_block_holds_the_first_visible_position(window: int) -> None:
    group = KVGroup(8, window)
    for num_tokens in range(1100):
        first_position = max(0, num_tokens - window + 1)
        assert group.first_visible(num_tokens) == first_position // 16
    assert KVGroup(8).first_visible(1000) == 0


def test_a_prefix_of_whole_blocks_ends_with_a_window_less_one_token() -> None:
    needed = {w: 100 - KVGroup(8, w).first_visible(1600) for w in (1, 2, 17, 18, 33, 512, 513, 1602)}
    assert needed == {1: 0, 2: 1, 17: 1, 18: 2, 33: 2, 512: 32, 513: 32, 1602: 100}


def alone(group: KVGroup, max_tokens: int) -> Scheduler:
    limits = Limits(max_tokens=max_tokens, max_rows=1, max_seqs=1, max_model_len=200)
    return Scheduler(KVManager([group]), limits)


@pytest.mark.parametrize("max_tokens", [1, 2, 15, 16, 17, 40])
@pytest.mark.parametrize("window", [1, 2, 15, 16, 17, 18, 33])
def test_with_what_it_holds_at_most_a_request_of_any_length_runs(window: int, max_tokens: int) -> None:
    s = alone(KVGroup(most_held(window, max_tokens), window), max_tokens)
    assert s.max_request_tokens == 200
    s.add(request(100, 100))
    while s.has_work:
        step(s)
    assert s.counters.num_preemptions == 0


def test_with_less_it_must_fit_as_a_whole() -> None:
    group = KVGroup(most_held(33, 40) - 1, 33)
    s = alone(group, 40)
    assert group.num_blocks == 6 and s.max_request_tokens == 97
    with pytest.raises(OutOfMemory, match="98 tokens"):
        s.add(request(90, 8))
    s.add(request(90, 7))
    while s.has_work:
        step(s)


def test_the_smallest_group_bounds_a_request() -> None:
    limits = Limits(max_tokens=16, max_rows=1, max_seqs=1, max_model_len=500)
    assert KVManager([KVGroup(20), KVGroup(5, 33)]).capacity(limits) == 320
    assert KVManager([KVGroup(20), KVGroup(4, 33)]).capacity(limits) == 64
    assert KVManager([KVGroup(3, 16)]).capacity(limits) == sys.maxsize


@pytest.mark.parametrize("window", [1, 16, 33])
def test_with_all_that_is_useful_a_window_never_makes_anybody_wait(window: int) -> None:
    limits = Limits(max_tokens=40, max_rows=4, max_seqs=4, max_model_len=300)
    count = most_useful(window, max_num_seqs=4, step_tokens=40)
    s = Scheduler(KVManager([KVGroup(100), KVGroup(count, window)]), limits)
    for n in range(4):
        s.add(request(150, 50, first=200 * n))
    while s.has_work:
        step(s)
        assert len(s.running) + len(s.waiting) < 4 or s.counters.num_preemptions == 0
    assert s.counters.num_preemptions == 0
    windowed = s._kv.pools[1]
    assert windowed.num_free == windowed.num_blocks
