from __future__ import annotations

import numpy as np
import pytest

from lepton_ai.backends.base import SampledTokens
from lepton_ai.config import Limits
from lepton_ai.engine.kv.group import KVGroup
from lepton_ai.engine.kv.manager import KVManager
from lepton_ai.engine.outputs import TokenLogprob
from lepton_ai.engine.plan import StepPlan, TokenOutput
from lepton_ai.engine.request import FinishReason, Request
from lepton_ai.engine.request_options import RequestOptions
from lepton_ai.engine.sampling_params import SamplingParams
from lepton_ai.engine.scheduling.policy import SchedulingPolicy
from lepton_ai.engine.scheduling.scheduler import Scheduler
from lepton_ai.errors import ContextLengthExceeded, InvalidRequest, OutOfMemory


def scheduler(*, num_blocks: int = 32, max_tokens: int = 64, max_seqs: int = 4, max_model_len: int = 256) -> Scheduler:
    limits = Limits(max_tokens=max_tokens, max_rows=max_seqs, max_seqs=max_seqs, max_model_len=max_model_len)
    return Scheduler(KVManager([KVGroup(num_blocks)]), limits)


def request(num_prompt_tokens: int, max_tokens: int = 8, *, first: int = 0, **params: object) -> Request:
    prompt = np.arange(first, first + num_prompt_tokens, dtype=np.int32)
    made = SamplingParams(**params)  # type: ignore[arg-type]
    return Request.create(prompt, made, max_tokens=num_prompt_tokens + max_tokens, eos_ids=frozenset({0}))


def shape(plan: StepPlan) -> list[tuple[int, int, bool]]:
    return [(s.request.arrival, s.num_tokens, s.is_sampled) for s in plan.sequences]


def step(s: Scheduler, token_id: int = 7) -> tuple[StepPlan, list[TokenOutput]]:
    plan = s.schedule()
    num_rows = sum(sequence.is_sampled for sequence in plan.sequences)
    sampled = SampledTokens(
        token_ids=np.full(num_rows, token_id, np.int32),
        logprobs=np.full(num_rows, -1.5, np.float32),
        top_ids=np.tile(np.array([token_id, 9], np.int32), (num_rows, 1)),
        top_logprobs=np.tile(np.array([-1.5, -2.5], np.float32), (num_rows, 1)),
    )
    outputs = s.update(plan, sampled if num_rows else None)
    s.check_integrity()
    return plan, outputs


def test_a_long_prompt_is_cut_and_shares_steps_with_younger_ones() -> None:
    s = scheduler(max_tokens=64)
    s.add(request(100))
    s.add(request(20, first=200))
    assert shape(step(s)[0]) == [(0, 44, False), (1, 20, True)]
    assert shape(step(s)[0]) == [(0, 56, True), (1, 1, True)]
    assert shape(step(s)[0]) == [(0, 1, True), (1, 1, True)]
    assert [r.block_tables for r in s.running] == [([0, 1, 2, 5, 6, 7, 8],), ([3, 4],)]


def test_decoding_goes_before_a_new_prompt() -> None:
    s = scheduler(max_tokens=16)
    s.add(request(4))
    step(s)
    s.add(request(40, first=100))
    assert shape(step(s)[0]) == [(0, 1, True), (1, 15, False)]
    assert shape(step(s)[0]) == [(0, 1, True), (1, 15, False)]
    assert shape(step(s)[0]) == [(0, 1, True), (1, 10, True)]


def test_no_more_requests_than_seqs() -> None:
    s = scheduler(max_seqs=2)
    for n in range(3):
        s.add(request(3, max_tokens=1 + n, first=50 * n))
    assert shape(step(s)[0]) == [(0, 3, True), (1, 3, True)]
    assert shape(step(s)[0]) == [(1, 1, True), (2, 3, True)]


def test_a_shared_prefix_is_computed_once() -> None:
    s = scheduler()
    s.add(request(40))
    step(s)
    s.add(request(40))
    assert shape(step(s)[0]) == [(0, 1, True), (1, 8, True)]
    assert s.running[1].num_cached_tokens == 32
    assert s.running[1].block_tables == ([0, 1, 3],)


def test_ends() -> None:
    s = scheduler()
    by_length, by_eos, by_id = request(3, 2), request(3, first=20), request(3, first=40, stop_token_ids=[7])
    ignoring = request(3, 3, first=60, ignore_eos=True)
    for r in (by_length, by_id):
        s.add(r)
    _, outputs = step(s, token_id=7)
    assert [o.finish_reason for o in outputs] == [None, FinishReason.STOP]
    _, outputs = step(s, token_id=7)
    assert [o.finish_reason for o in outputs] == [FinishReason.LENGTH]
    for r in (by_eos, ignoring):
        s.add(r)
    _, outputs = step(s, token_id=0)
    assert [o.finish_reason for o in outputs] == [FinishReason.STOP, None]
    assert by_eos.tokens[: by_eos.num_tokens].tolist() == [20, 21, 22, 0]
    assert [r.block_tables for r in (by_length, by_eos, by_id)] == [(), (), ()]


def test_logprobs_only_where_asked() -> None:
    s = scheduler()
    s.add(request(3, logprobs=1))
    s.add(request(3, first=20))
    _, outputs = step(s)
    assert outputs[0].token_id == 7 and outputs[0].logprob == TokenLogprob(7, -1.5, ((7, -1.5),))
    assert outputs[1].logprob is None


def test_the_youngest_makes_room_and_is_computed_again() -> None:
    s = scheduler(num_blocks=4, max_model_len=64)
    old, young = request(16, 24), request(31, 20, first=100)
    s.add(old)
    s.add(young)
    assert shape(step(s)[0]) == [(0, 16, True), (1, 31, True)]
    assert (old.block_tables, young.block_tables) == (([0],), ([1, 2],))
    step(s)
    assert (old.block_tables, young.block_tables) == (([0, 3],), ([1, 2],))
    # The young one wants a third block, and there is none: it gives up its own.
    assert shape(step(s)[0]) == [(0, 1, True)]
    assert s.counters.num_preemptions == 1 and list(s.waiting) == [young] and not young.block_tables
    for _ in range(14):
        assert shape(step(s)[0]) == [(0, 1, True)]
    step(s)
    assert old.block_tables == ([0, 3, 2],), "the end of the young one's prefix is overwritten first"
    while old.finish_reason is None:
        step(s)
    assert shape(step(s)[0]) == [(1, 17, True)], "its first block was still there"
    assert young.block_tables == ([1, 2, 3],), "and the rest goes where the old one was"
    assert young.num_tokens == 34
    assert young.num_cached_tokens == 0, "what is found again after pre-emption was not cached for the caller"


def test_the_oldest_advances_in_every_step() -> None:
    s = scheduler(num_blocks=5, max_model_len=80, max_tokens=32)
    for n in range(4):
        s.add(request(10 + n, 60, first=30 * n))
    while s.has_work:
        oldest = (s.running or list(s.waiting))[0]
        before = oldest.num_computed_tokens
        step(s)
        assert oldest.finish_reason or oldest.num_computed_tokens > before
    assert s.counters.num_preemptions > 0


def test_what_can_never_fit_is_refused() -> None:
    s = scheduler(num_blocks=4, max_model_len=100)
    with pytest.raises(ContextLengthExceeded, match="90 prompt tokens and 11 to generate"):
        s.add(request(90, 11))
    with pytest.raises(OutOfMemory, match="66 tokens"):
        s.add(request(60, 6))
    assert not s.has_work
    s.add(request(60, 5))
    while s.has_work:
        step(s)


def test_finish_frees_running_and_waiting() -> None:
    s = scheduler(max_seqs=1)
    running, waiting = request(20), request(20, first=50)
    s.add(running)
    s.add(waiting)
    step(s)
    s.finish(waiting, FinishReason.CANCELLED)
    s.finish(running, FinishReason.CANCELLED)
    s.finish(running, FinishReason.STOP)
    assert running.finish_reason is FinishReason.CANCELLED
    assert not s.has_work and s.schedule() == StepPlan(())
    s.check_integrity()


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def many_scheduler(clock: Clock | None = None, **limits: int) -> Scheduler:
    sizes = {"max_tokens": 64, "max_seqs": 4, "max_model_len": 512, "num_blocks": 64} | limits
    num_blocks = sizes.pop("num_blocks")
    plan = Limits(max_rows=sizes["max_seqs"], **sizes)
    return Scheduler(KVManager([KVGroup(num_blocks)]), plan, SchedulingPolicy(ageing_s=10.0), clock or Clock())


def from_tenant(num_prompt_tokens: int, max_tokens: int = 8, *, first: int = 0, **options: object) -> Request:
    prompt = np.arange(first, first + num_prompt_tokens, dtype=np.int32)
    made = RequestOptions(**options)  # type: ignore[arg-type]
    return Request.create(prompt, SamplingParams(), max_tokens=num_prompt_tokens + max_tokens, options=made)


def test_a_short_prompt_does_not_wait_for_long_ones() -> None:
    s = many_scheduler()
    for first in (0, 1000, 2000):
        s.add(request(300, first=first))
    s.add(request(20, first=5000))
    plan, outputs = step(s)
    assert shape(plan) == [(0, 44, False), (3, 20, True)]
    assert [o.request.arrival for o in outputs] == [3]
    assert [r.arrival for r in s.waiting] == [1, 2], "one long prompt at a time"


def test_a_beginning_that_is_being_computed_is_waited_for_and_shared() -> None:
    s = many_scheduler(max_tokens=32)
    shared = np.arange(100, 148, dtype=np.int32)
    alike = [
        Request.create(np.append(shared, [n, n + 1]).astype(np.int32), SamplingParams(), max_tokens=58)
        for n in (1, 11, 21)
    ]
    other = request(10, first=500)
    for r in (alike[0], alike[1], other, alike[2]):
        s.add(r)
    assert shape(step(s)[0]) == [(0, 22, False), (2, 10, True)]
    assert shape(step(s)[0]) == [(0, 28, True), (2, 1, True)]
    assert shape(step(s)[0]) == [(0, 1, True), (1, 2, True), (2, 1, True), (3, 2, True)]
    assert [r.num_cached_tokens for r in alike] == [0, 48, 48]
    assert [r.block_tables[0][:3] for r in alike] == [[0, 1, 3]] * 3


def test_requests_with_a_cached_beginning_go_next_to_each_other() -> None:
    s = many_scheduler(max_seqs=1)
    s.add(request(40, 1))
    step(s)
    for first in (500, 600, 0, 700, 0):
        s.add(request(40, 1, first=first))
    order = []
    while s.has_work:
        order.append(step(s)[0].sequences[0].request.arrival)
    assert order == [3, 5, 1, 2, 4]


def test_tenants_do_not_share_and_take_turns() -> None:
    s = many_scheduler(max_seqs=1)
    for tenant in ("a", "a", "a", "b"):
        s.add(from_tenant(40, 1, tenant=tenant))
    order, cached = [], []
    while s.has_work:
        (sequence,) = step(s)[0].sequences
        order.append(sequence.request.arrival)
        cached.append(sequence.request.num_cached_tokens)
    assert (order, cached) == ([0, 3, 1, 2], [0, 0, 32, 32])


def test_an_urgent_request_takes_the_place_of_a_patient_one() -> None:
    clock = Clock()
    s = many_scheduler(clock, max_seqs=2)
    patient = [from_tenant(5, 40, first=n, priority=5) for n in (0, 50)]
    for r in patient:
        s.add(r)
    step(s)
    clock.now = 1.0
    urgent = from_tenant(5, 2, first=100, priority=0)
    s.add(urgent)
    step(s)
    assert (s.running, list(s.waiting)) == ([urgent, patient[0]], [patient[1]])
    assert s.counters.num_preemptions == 1
    step(s)
    step(s)
    assert s.running == patient
    clock.now = 60.0
    late = from_tenant(5, 2, first=200, priority=0)
    s.add(late)
    step(s)
    assert list(s.waiting) == [late], "who was there for so long keeps its place"


def test_equals_never_take_each_others_place() -> None:
    s = many_scheduler(max_seqs=2, num_blocks=8)
    for first in (0, 100, 200, 300):
        s.add(request(20, 12, first=first))
    while s.has_work:
        step(s)
    assert s.counters.num_preemptions == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"priority": 101}, "priority: expected an integer from -100 to 100, got 101"),
        ({"priority": True}, "priority: expected an integer from -100 to 100, got True"),
        ({"tenant": "x" * 257}, "tenant: expected a string of at most 256 characters"),
        ({"tenant": 3}, "tenant: expected a string of at most 256 characters"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message) as caught:
        RequestOptions(**options)  # type: ignore[arg-type]
    assert caught.value.param == next(iter(options))


def test_the_prompt_of_several_choices_is_computed_once() -> None:
    s = many_scheduler(max_tokens=32)
    leader = request(40, 4, seed=5)
    choices = [leader, leader.sibling(1), leader.sibling(2)]
    for r in choices:
        s.add(r)
    assert [r.seed for r in choices] == [5, 6, 7]
    assert shape(step(s)[0]) == [(0, 32, False)]
    assert shape(step(s)[0]) == [(0, 8, True)]
    plan, _ = step(s)
    assert shape(plan) == [(0, 1, True), (1, 1, True), (2, 1, True)]
    assert plan.copies == ((0, 2, 3), (0, 2, 4))
    assert [r.block_tables for r in choices] == [([0, 1, 3],), ([0, 1, 4],), ([0, 1, 2],)]
    assert [r.num_cached_tokens for r in choices] == [0, 39, 39]


def test_choices_of_a_leader_that_ended_go_on_alone() -> None:
    s = many_scheduler(max_tokens=32)
    leader = request(40, 4)
    sibling = leader.sibling(1)
    for r in (leader, sibling):
        s.add(r)
    step(s)
    s.finish(leader, FinishReason.CANCELLED)
    assert shape(step(s)[0]) == [(1, 8, True)], "its first two blocks are cached"
    assert sibling.num_cached_tokens == 32


def test_stats_say_what_was_done_and_what_is_held() -> None:
    s = many_scheduler(max_tokens=64, num_blocks=8)
    assert (s.stats().num_steps, s.stats().kv_usage) == (0, 0.0)
    first, second = request(40, 2), request(40, 3)
    for r in (first, second):
        s.add(r)
    step(s)
    assert (s.stats().num_running, s.stats().num_waiting, s.stats().kv_blocks_used) == (1, 1, 3)
    step(s)
    stats = s.stats()
    assert (stats.prompt_tokens, stats.cached_tokens, stats.computed_tokens) == (80, 32, 49)
    assert (stats.output_tokens, stats.num_preemptions, stats.finished) == (3, 0, {"length": 1})
    assert (stats.step_tokens.counts[2], stats.step_tokens.counts[4]) == (1, 1), "steps of 9 and 40 tokens"
    assert (stats.step_tokens.count, stats.step_tokens.total) == (2, 49)
    s.finish(second, FinishReason.CANCELLED)
    assert s.stats().finished == {"length": 1, "cancelled": 1} and s.stats().kv_blocks_used == 0


def test_stats_say_how_long_requests_waited_and_ran() -> None:
    clock = Clock()
    s = many_scheduler(clock, max_seqs=1)
    first, second, scored, hasty = request(40, 3), request(5, 1), request(6, 0), request(7, 9)
    for r in (first, second, scored, hasty):
        s.add(r)
    for clock.now in (1.0, 3.0, 6.0, 10.0, 15.0):
        step(s)
    s.finish(hasty, FinishReason.CANCELLED)  # it has never been let in
    stats = s.stats()
    assert (stats.queue_s.count, stats.queue_s.total) == (3, 1.0 + 10.0 + 15.0)
    assert (stats.inference_s.count, stats.inference_s.total) == (3, 5.0)
    assert (stats.prefill_s.count, stats.prefill_s.total) == (3, 0.0)
    assert (stats.decode_s.count, stats.decode_s.total) == (2, 5.0), "a prompt that is only scored decodes nothing"
    assert stats.finished == {"length": 3, "cancelled": 1}
