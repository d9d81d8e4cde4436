"""Random lives of scheduler and pool: whatever happens, nothing leaks, nobody starves, answers stay the same."""

from __future__ import annotations

import os
from collections import Counter

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.engine.fakes import FakeCache, FakeExecutable, expected_prompt_logprobs, expected_tokens

from lepton_ai.config import Limits
from lepton_ai.engine.kv.group import KVGroup, most_held, num_blocks_for
from lepton_ai.engine.kv.manager import KVManager
from lepton_ai.engine.request import FinishReason, Request
from lepton_ai.engine.request_options import RequestOptions
from lepton_ai.engine.runner import Runner
from lepton_ai.engine.sampling_params import SamplingParams
from lepton_ai.engine.scheduling.policy import SchedulingPolicy
from lepton_ai.engine.scheduling.scheduler import Scheduler

MAX_MODEL_LEN, MAX_OVERTAKES = 96, 2
MAX_PROMPT, MAX_OUTPUT = 60, 30
STEPS_OF_A_LIFE = 60
NUM_STEPS = int(os.environ.get("LEPTON_TEST_SCHEDULER_STEPS", "3600"))


def fewest_blocks(window: int | None, max_tokens: int) -> int:
    """With which a request of any size runs: all of it, or in a window what a step shows of it."""
    whole = num_blocks_for(MAX_PROMPT + MAX_OUTPUT - 1)
    return whole if window is None else min(whole, most_held(window, max_tokens))


class SchedulerMachine(RuleBasedStateMachine):
    """Prompts are runs of one alphabet with few beginnings, so that prefixes are often shared."""

    @initialize(
        windows=st.lists(st.none() | st.integers(1, 50), min_size=1, max_size=3),
        num_spare=st.tuples(*[st.integers(0, 6)] * 3),
        max_tokens=st.integers(1, 40),
        max_seqs=st.integers(1, 5),
        num_more_rows=st.integers(0, 20),
    )
    def start(
        self,
        windows: list[int | None],
        num_spare: tuple[int, ...],
        max_tokens: int,
        max_seqs: int,
        num_more_rows: int,
    ) -> None:
        limits = Limits(max_tokens, max_seqs + num_more_rows, max_seqs, MAX_MODEL_LEN)
        counts = [fewest_blocks(w, max_tokens) + spare for w, spare in zip(windows, num_spare, strict=False)]
        self.kv = KVManager([KVGroup(*group) for group in zip(counts, windows, strict=True)])
        self.now = 0.0
        self.scheduler = Scheduler(self.kv, limits, SchedulingPolicy(max_overtakes=MAX_OVERTAKES), lambda: self.now)
        self.executable = FakeExecutable(limits, tuple(windows))
        self.runner = Runner(self.executable, FakeCache(*counts), limits, num_kv_groups=len(windows))
        self.requests: list[Request] = []
        self.limits = limits
        self.num_scored: Counter[int] = Counter()

    @rule(
        begin=st.integers(0, 2),
        num_prompt=st.integers(1, MAX_PROMPT),
        num_output=st.integers(1, MAX_OUTPUT),
        priority=st.integers(-1, 1),
        tenant=st.sampled_from("ab"),
        num_choices=st.sampled_from([1, 1, 2, 3]),
        prompt_logprobs=st.sampled_from([None, None, 0, 2]),
        is_only_scored=st.booleans(),
    )
    def add(
        self,
        begin: int,
        num_prompt: int,
        num_output: int,
        priority: int,
        tenant: str,
        num_choices: int,
        prompt_logprobs: int | None,
        is_only_scored: bool,
    ) -> None:
        prompt = np.arange(begin, begin + num_prompt, dtype=np.int32)
        params = SamplingParams(temperature=0.0, repetition_penalty=1.0 + begin, prompt_logprobs=prompt_logprobs)
        if prompt_logprobs is not None and is_only_scored:
            num_output = 0
        options = RequestOptions(priority=priority, tenant=tenant)
        request = Request.create(prompt, params, max_tokens=num_prompt + num_output, options=options)
        for made in (request, *(request.sibling(i) for i in range(1, num_choices))):
            self.scheduler.add(made)
            self.requests.append(made)

    @rule(count=st.integers(1, 12))
    def step(self, count: int) -> None:
        for _ in range(count):
            unfinished = [r for r in self.requests if r.finish_reason is None and r not in self.scheduler.paused]
            ahead = min(self.scheduler.running, key=self.rank, default=None)
            plan = self.scheduler.schedule()
            self.now += 1.0
            if not unfinished:
                assert not plan.sequences
                return
            first = plan.sequences[0].request
            assert first is min(self.scheduler.running, key=self.rank), "the highest rank does not run"
            assert ahead is None or self.rank(first) <= self.rank(ahead), "the highest rank was pre-empted"
            assert sum(s.num_tokens for s in plan.sequences) <= self.limits.max_tokens
            assert sum(len(s.scored) + s.is_sampled for s in plan.sequences) <= self.limits.max_rows
            for sequence in plan.sequences:
                self.num_scored[sequence.request.arrival] += len(sequence.scored)
            self.scheduler.update(plan, self.runner.execute(plan))

    @staticmethod
    def rank(request: Request) -> tuple[float, int]:
        return request.queued_at + SchedulingPolicy().ageing_s * request.priority, request.arrival

    @rule(which=st.integers(0, 1000))
    def cancel(self, which: int) -> None:
        if self.requests:
            self.scheduler.finish(self.requests[which % len(self.requests)], FinishReason.CANCELLED)

    @rule(which=st.integers(0, 1000))
    def pause(self, which: int) -> None:
        if self.requests:
            self.scheduler.pause(self.requests[which % len(self.requests)])

    @rule(which=st.integers(0, 1000))
    def resume(self, which: int) -> None:
        if self.requests:
            self.scheduler.resume(self.requests[which % len(self.requests)])

    @invariant()
    def is_sound(self) -> None:
        if hasattr(self, "scheduler"):
            self.scheduler.check_integrity()
            assert all(r.num_overtaken <= MAX_OVERTAKES for r in self.requests)

    def teardown(self) -> None:
        if not hasattr(self, "scheduler"):
            return
        for request in self.requests:
            self.scheduler.resume(request)
        while self.scheduler.has_work:
            self.step(1)
        self.kv.check_integrity([])
        for request in self.requests:
            output = request.tokens[request.num_prompt_tokens : request.num_tokens].tolist()
            prompt = request.tokens[: request.num_prompt_tokens].tolist()
            assert output == expected_tokens(prompt, len(output), window=self.executable.window)
            if request.finish_reason is FinishReason.LENGTH:
                assert request.num_tokens == request.max_tokens
            if request.prompt_logprobs is not None:
                known = [(e.token_id, e.logprob) for e in request.prompt_logprobs]
                expected = expected_prompt_logprobs(prompt, window=self.executable.window)
                assert known == expected[: len(known)]
                assert not request.num_unscored_tokens or not request.num_output_tokens
                assert not request.num_unscored_tokens or request.finish_reason is FinishReason.CANCELLED
                assert self.num_scored[request.arrival] <= len(known), "a position was scored twice"


TestScheduler = SchedulerMachine.TestCase
TestScheduler.settings = settings(
    max_examples=NUM_STEPS // STEPS_OF_A_LIFE, stateful_step_count=STEPS_OF_A_LIFE, deadline=None, derandomize=True
)
