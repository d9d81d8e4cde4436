from __future__ import annotations

import threading
from dataclasses import dataclass, field

import pytest
from tests.engine.fakes import (
    ByteDecoder,
    FakeCache,
    FakeExecutable,
    FakeHandle,
    config,
    expected_tokens,
    no_constraints,
)

from lepton_ai.backends.base import KVCache, StepInputs
from lepton_ai.engine.engine import Engine
from lepton_ai.engine.local_client import LocalClient
from lepton_ai.engine.request_options import RequestOptions
from lepton_ai.engine.sampling_params import SamplingParams
from lepton_ai.engine.trace import Arrival, RequestStep, StepTrace, StepTracer
from lepton_ai.errors import LeptonError


@dataclass
class Clock:
    """Each look at it is a second later than the last."""

    now: float = 99.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


@dataclass
class TimedFake(FakeExecutable):
    """Each step takes half a second of products and an eighth of attention."""

    is_timing: bool = False
    seconds: dict[str, float] = field(default_factory=dict)

    def run(self, inputs: StepInputs, cache: KVCache) -> FakeHandle:
        handle = super().run(inputs, cache)
        if self.is_timing:
            for kind, seconds in (("linear", 0.5), ("attend", 0.125), ("pool", 0.0)):
                self.seconds[kind] = self.seconds.get(kind, 0.0) + seconds
        return handle

    def set_timing(self, *, enabled: bool) -> None:
        self.is_timing = enabled

    def take_seconds(self) -> dict[str, float]:
        taken, self.seconds = self.seconds, {}
        return taken


class Setup:
    def __init__(self, *, max_tokens: int = 8, max_seqs: int = 4, num_blocks: int = 64) -> None:
        made = config(max_tokens=max_tokens, max_seqs=max_seqs)
        self.executable = TimedFake(made.limits)
        self.engine = Engine(self.executable, FakeCache(num_blocks), made)
        self.client = LocalClient(self.engine, lambda params: ByteDecoder(params.stop_strings), no_constraints)

    def finish(self, *prompts: list[int], max_tokens: int = 3, priority: int = 0) -> list[str]:
        params = SamplingParams(temperature=0.0, max_tokens=max_tokens)
        options = RequestOptions(priority=priority)
        generations = self.client.submit_all(prompts, [params] * len(prompts), options)
        texts = []
        for generation in generations:
            text = ""
            while (chunk := self.client.next_chunk(generation)) is not None:
                text += chunk.text
            texts.append(text)
        return texts


def parts(steps: list[StepTrace]) -> list[list[RequestStep]]:
    """Each is equal to a tuple of its fields."""
    return [list(step.requests) for step in steps]


def test_who_ran_how_many_tokens() -> None:
    setup, steps = Setup(), list[StepTrace]()
    with setup.client.trace(steps.append):
        texts = setup.finish([5] * 20, [7] * 3)
    assert texts == ["".join(map(chr, expected_tokens(prompt, 3))) for prompt in ([5] * 20, [7] * 3)]
    # The long prompt gets half a step and what the short one leaves; a request that decodes gets its token first.
    assert parts(steps) == [
        [(0, 5, 0, False), (1, 3, 0, True)],
        [(0, 7, 0, False), (1, 0, 1, True)],
        [(0, 7, 0, False), (1, 0, 1, True)],
        [(0, 1, 0, True)],
        [(0, 0, 1, True)],
        [(0, 0, 1, True)],
    ]
    assert steps[0].requests[0] == RequestStep(request_id=0, prompt_tokens=5, decode_tokens=0, has_row=False)
    assert [(step.prompt_tokens, step.decode_tokens) for step in steps] == [
        (8, 0),
        (7, 1),
        (7, 1),
        (1, 0),
        (0, 1),
        (0, 1),
    ]
    assert [(a.request_id, a.prompt_tokens) for a in steps[0].arrivals] == [(0, 20), (1, 3)]
    assert all(step.arrivals == () for step in steps[1:])
    # As the step leaves them: the second request ends in step 3, the first in step 6.
    assert [step.stats.num_running for step in steps] == [2, 2, 1, 1, 1, 0]
    assert [step.stats.num_steps for step in steps] == [1, 2, 3, 4, 5, 6]
    assert [step.stats.kv_blocks_used for step in steps] == [2, 2, 2, 2, 2, 0]


def test_where_the_time_went() -> None:
    setup, steps = Setup(), list[StepTrace]()
    setup.engine.tracer = tracer = StepTracer(setup.executable, clock=Clock())
    tracer.observers.append(steps.append)
    setup.executable.seconds = {"linear": 7.0}  # of somebody else, between two steps
    setup.finish([5] * 3, max_tokens=2)
    first, second = steps
    assert first.arrivals == (Arrival(request_id=0, at_s=100.0, prompt_tokens=3),)
    assert (first.start_s, first.end_s, second.start_s, second.end_s) == (101.0, 105.0, 106.0, 110.0)
    for step in steps:
        assert (step.schedule_s, step.execute_s, step.update_s, step.deliver_s) == (1.0, 1.0, 1.0, 1.0)
        assert step.kernel_s == {"linear": 0.5, "attend": 0.125}
        assert step.call_s == 0.375


def test_a_backend_that_does_not_measure() -> None:
    made = config()
    engine, steps = Engine(FakeExecutable(made.limits), FakeCache(8), made), list[StepTrace]()
    client = LocalClient(engine, lambda params: ByteDecoder(), no_constraints)
    with client.trace(steps.append):
        client.next_chunk(client.submit([1, 2], SamplingParams(max_tokens=1)))
    assert [step.kernel_s for step in steps] == [{}] and steps[0].call_s == steps[0].execute_s > 0


def test_who_made_room_and_what_is_computed_again() -> None:
    # Seven blocks, and two requests that grow to five each. The younger gives its own up, and begins anew.
    setup, steps = Setup(max_tokens=96, num_blocks=7), list[StepTrace]()
    with setup.client.trace(steps.append):
        setup.finish([5] * 40, [7] * 40, max_tokens=40)
    # The prompts of 40, then 8 tokens each, to the end of the third blocks; the ninth needs a fourth.
    assert parts(steps[:9]) == [[(0, 40, 0, True), (1, 40, 0, True)]] + 8 * [[(0, 0, 1, True), (1, 0, 1, True)]]
    assert [step.preempted for step in steps] == [()] * 9 + [(1,)] + [()] * (len(steps) - 10)
    (again,) = [step for step in steps[9:] if step.prompt_tokens]
    # 49 tokens, the newest of which was never computed; nobody overwrote the first 32.
    assert again.requests == (RequestStep(request_id=1, prompt_tokens=16, decode_tokens=1, has_row=True),)
    assert sum(step.prompt_tokens + step.decode_tokens for step in steps) == steps[-1].stats.computed_tokens


def test_nothing_is_measured_before_and_after() -> None:
    setup, steps, others = Setup(), list[StepTrace](), list[StepTrace]()
    setup.finish([1])
    with setup.client.trace(steps.append):
        assert setup.executable.is_timing
        setup.finish([2], max_tokens=1)
        with setup.client.trace(others.append):
            setup.finish([3], max_tokens=2)
        setup.finish([4], max_tokens=4)
    assert setup.engine.tracer is None and not setup.executable.is_timing
    setup.finish([5])
    assert len(steps) == 1 + 2 + 4 and others == steps[1:3]


def test_a_broken_step_is_not_told_of() -> None:
    setup, steps = Setup(), list[StepTrace]()
    with setup.client.trace(steps.append):
        setup.executable.failure = RuntimeError("device lost")
        with pytest.raises(RuntimeError, match="device lost"):
            setup.finish([1, 2])
        setup.finish([3, 4, 5], max_tokens=1)
    assert [(step.arrivals[0].prompt_tokens, step.requests) for step in steps] == [(3, (RequestStep(0, 3, 0, True),))]


def test_an_observer_may_submit_but_not_fail() -> None:
    setup, steps = Setup(), list[StepTrace]()
    params = SamplingParams(temperature=0.0, max_tokens=2)
    generations = [setup.client.submit([1, 2], params)]

    def observe(step: StepTrace) -> None:
        steps.append(step)
        if len(steps) == 1:
            generations.append(setup.client.submit([3], params))
        if len(steps) == 4:
            raise ValueError("no more")

    with setup.client.trace(observe):
        for generation in generations:
            while setup.client.next_chunk(generation) is not None:
                pass
        assert parts(steps) == [[(0, 2, 0, True)], [(0, 0, 1, True), (1, 1, 0, True)], [(1, 0, 1, True)]]
        with pytest.raises(ValueError, match="no more"):
            setup.finish([4])
    assert setup.finish([1, 2], max_tokens=2) == ["".join(map(chr, expected_tokens([1, 2], 2)))]


def test_a_trace_begins_and_ends_between_steps_of_others() -> None:
    setup, is_done = Setup(), threading.Event()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            while not is_done.is_set():
                setup.finish([1, 2, 3], max_tokens=50)
        except LeptonError as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    for _ in range(20):
        with setup.client.trace(lambda step: None):
            pass
    is_done.set()
    thread.join(timeout=20)
    assert not thread.is_alive() and failures == []
