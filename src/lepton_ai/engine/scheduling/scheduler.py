"""What runs next, within a budget of tokens a step.

There is no prefill phase and no decode phase. A request has tokens and a number of computed tokens; every step hands
requests some of the missing ones (``token_budget``). Who waits is let in by priority, age, fairness and cached prefixes
(``waiting_queue``). Who runs has a rank, which never changes (``SchedulingPolicy.deadline``). If blocks run out, the
lowest rank gives its own back and is computed again later: the highest always advances.
"""

from __future__ import annotations

import time
from bisect import insort
from collections.abc import Callable, Sequence

from lepton_ai.backends.base import BLOCK_SIZE, SampledTokens
from lepton_ai.config import Limits
from lepton_ai.engine.kv.manager import KVManager
from lepton_ai.engine.outputs import TokenLogprob
from lepton_ai.engine.plan import ScheduledSequence, StepPlan, TokenOutput
from lepton_ai.engine.request import FinishReason, Request
from lepton_ai.engine.scheduling.policy import SchedulingPolicy
from lepton_ai.engine.scheduling.tenant_service import TenantService
from lepton_ai.engine.scheduling.token_budget import allot
from lepton_ai.engine.scheduling.waiting_queue import WaitingQueue
from lepton_ai.engine.stats import Counters, EngineStats
from lepton_ai.errors import ContextLengthExceeded, OutOfMemory


class Scheduler:
    """Holds the unfinished requests: those that wait, those that run, in order of rank, and those whose readers are to
    catch up first. ``clock`` gives seconds."""

    def __init__(
        self,
        kv: KVManager,
        limits: Limits,
        policy: SchedulingPolicy | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._policy = policy or SchedulingPolicy()
        self._service = TenantService()
        self._clock = clock
        self.waiting = WaitingQueue(self._policy, self._service)
        self.running: list[Request] = []
        self.paused: set[Request] = set()
        self.counters = Counters()
        self._preempted: list[Request] = []
        self._num_arrivals = 0
        self._kv = kv
        self._limits = limits

    @property
    def has_work(self) -> bool:
        """Whether any request could advance."""
        return bool(self.running or self.waiting)

    def check(self, num_prompt_tokens: int, max_tokens: int) -> None:
        """Raise ContextLengthExceeded if ``max_tokens`` in all exceed the context, OutOfMemory if the KV memory."""
        if max_tokens > self._limits.max_model_len:
            raise ContextLengthExceeded(
                f"max_tokens: {num_prompt_tokens} prompt tokens and {max_tokens - num_prompt_tokens} to generate "
                f"exceed the context of {self._limits.max_model_len} tokens",
                param="max_tokens",
            )
        most = self.max_request_tokens if max_tokens > num_prompt_tokens else self._kv.capacity(self._limits)
        if max_tokens > most:
            raise OutOfMemory(
                f"max_tokens: {max_tokens} tokens with the prompt exceed the KV memory, which holds "
                f"{most}; raise kv_memory_bytes or ask for fewer",
                param="max_tokens",
            )

    @property
    def max_request_tokens(self) -> int:
        """The longest request that fits, prompt and output. The KV of the last output token is never computed."""
        return min(self._limits.max_model_len, self._kv.capacity(self._limits) + 1)

    def add(self, request: Request) -> None:
        """Queue a request, younger than all others, whose size ``check`` accepts."""
        self.check(request.num_prompt_tokens, request.max_tokens)
        request.arrival, request.queued_at = self._num_arrivals, self._clock()
        self._num_arrivals += 1
        self._service.begin(request.tenant)
        self.waiting.add(request)

    def schedule(self) -> StepPlan:
        """Choose the next step and take the blocks it needs. The plan is empty only if there is no work."""
        self._admit_waiting()
        planned: list[ScheduledSequence] = []
        for index, num_tokens in enumerate(self._allot()):
            if index == len(self.running):  # the rest made room
                break
            request = self.running[index]
            if num_tokens and not self._make_room(request, num_tokens):
                break
            if num_tokens:
                planned.append(self._sequence(request, num_tokens))
        assert planned or not self.has_work, "no request can advance"
        preempted, self._preempted = tuple(self._preempted), []
        return StepPlan(tuple(planned), self._kv.take_copies(), preempted)

    def update(self, plan: StepPlan, sampled: SampledTokens | None) -> list[TokenOutput]:
        """Account for an executed plan; ``sampled`` has the rows that the plan says."""
        outputs: list[TokenOutput] = []
        self.counters.num_steps += 1
        num_before = self.counters.computed_tokens
        token_ids = sampled.token_ids.tolist() if sampled else []
        row = 0
        all_scored: list[tuple[Request, range]] = []
        for request, num_tokens, is_sampled, scored in plan.sequences:
            request.num_computed_tokens += num_tokens
            self._service.charge(request.tenant, num_tokens)
            self.counters.computed_tokens += num_tokens
            if request.num_computed_tokens // BLOCK_SIZE > request.num_registered_blocks:
                self._kv.commit(request)
            if scored:
                all_scored.append((request, scored))
            if is_sampled:
                assert sampled is not None
                self.counters.output_tokens += 1
                request.append(token_ids[row])
                if request.prefilled_at is None:
                    request.prefilled_at = self._clock()
                count = request.params.logprobs
                logprob = None if count is None else _token_logprob(sampled, row, count)
                outputs.append(TokenOutput(request, token_ids[row], logprob, request.finish_reason))
                row += 1
            elif request.num_computed_tokens == request.max_tokens:
                request.finish_reason, request.prefilled_at = FinishReason.LENGTH, self._clock()
                outputs.append(TokenOutput(request, None, None, request.finish_reason))
            if request.finish_reason:
                self._remove(request)
        if sampled and all_scored:
            _keep_scores(all_scored, sampled, row)
        self.counters.step_tokens.observe(self.counters.computed_tokens - num_before)
        return outputs

    def finish(self, request: Request, reason: FinishReason) -> None:
        """End a request between two steps; its blocks are free at once. One that has ended already stays as it is."""
        if request.finish_reason is None:
            request.finish_reason = reason
            self._remove(request)

    def pause(self, request: Request) -> None:
        """Let a request wait without memory until ``resume``; one that has ended stays as it is."""
        if request.finish_reason is not None or request in self.paused:
            return
        if request in self.waiting:
            self.waiting.remove(request)
        else:
            self.running.remove(request)
            self._kv.release(request)
        self.paused.add(request)

    def resume(self, request: Request) -> None:
        """Queue a paused request again, where it was by its age; any other stays as it is."""
        if request in self.paused:
            self.paused.remove(request)
            self.waiting.add(request)

    def stats(self) -> EngineStats:
        """Counts and state between two steps; during one, some may be of before and some of after it."""
        fullest = self._kv.fullest
        return EngineStats(
            num_running=len(self.running),
            num_waiting=len(self.waiting),
            num_paused=len(self.paused),
            kv_blocks=fullest.num_blocks,
            kv_blocks_used=fullest.num_held,
            **self.counters.snapshot(),
        )

    def check_integrity(self) -> None:
        """Assert that queues and blocks agree."""
        self._kv.check_integrity(self.running)
        everyone = [*self.running, *self.waiting, *self.paused]
        assert len({r.arrival for r in everyone}) == len(everyone), "a request is there twice"
        assert self.running == sorted(self.running, key=self._rank), "running requests are out of order"
        for request in (*self.waiting, *self.paused):
            assert not request.block_tables and request.num_computed_tokens == 0
        assert all(r.finish_reason is None for r in everyone)

    def _admit_waiting(self) -> None:
        """Let requests in while there are a seat, blocks, and tokens of the budget that nobody before them needs."""
        while self.waiting and self._backlog() < self._limits.max_tokens:
            if len(self.running) == self._limits.max_seqs and not any(map(self._may_preempt, self.waiting.heads())):
                return
            request = self.waiting.choose(self._clock(), self._rate)
            if request is None or not self._admit(request):
                return

    def _admit(self, request: Request) -> bool:
        """Give a waiting request a seat and its cached prefix, in place of less urgent ones if need be, or False."""
        while len(self.running) == self._limits.max_seqs:
            if not self._preempt_below(request):
                return False
        self._kv.attach(request)
        num_tokens = min(_missing(request), self._limits.max_tokens)
        while self._kv.num_wanted(request, num_tokens) + self._reserve() > self._kv.num_free:
            if not self._preempt_below(request):
                self._kv.release(request)
                return False
        if request.num_cached_tokens is None:
            request.num_cached_tokens = request.num_computed_tokens
            request.scheduled_at = self._clock()
            self.counters.queue_s.observe(request.scheduled_at - request.queued_at)
            self.counters.prompt_tokens += request.num_prompt_tokens
            self.counters.cached_tokens += request.num_computed_tokens
        self.waiting.take(request)
        insort(self.running, request, key=self._rank)
        return True

    def _backlog(self) -> int:
        """Tokens that prompts lack, but for that of the highest rank: short ones need not wait for it."""
        prompts = [missing for r in self.running if (missing := _missing(r)) > 1]
        return sum(prompts[1:])

    def _reserve(self) -> int:
        """Blocks that must be left for those that run: what their next step takes, and a block more for each."""
        budget = self._limits.max_tokens
        return sum(max(0, self._kv.num_wanted(r, min(_missing(r), budget))) + 1 for r in self.running)

    def _rate(self, request: Request) -> int | None:
        """Blocks of a waiting request that are cached. None while another computes its beginning, or a long prompt."""
        num_blocks = self._kv.hit(request)
        if self._policy.is_due(request):
            return num_blocks
        if not request.num_output_tokens and self._is_computing(request.leader):
            return None
        if self._kv.is_under_way(request, num_blocks):
            return None
        budget = self._limits.max_tokens
        is_long = request.num_tokens - num_blocks * BLOCK_SIZE > budget
        if is_long and any(_missing(r) > budget for r in self.running):
            return None
        return num_blocks

    def _is_computing(self, leader: Request | None) -> bool:
        """Whether the prompt that it shares is under way."""
        return leader is not None and leader.is_before_output and leader not in self.paused

    def _rank(self, request: Request) -> tuple[float, int]:
        return self._policy.deadline(request), request.arrival

    def _may_preempt(self, request: Request) -> bool:
        """Whether a waiting request may take the place of the lowest rank: one that is less urgent and below it."""
        if not self.running:
            return False
        lowest = self.running[-1]
        return request.priority < lowest.priority and self._rank(request) < self._rank(lowest)

    def _preempt_below(self, request: Request) -> bool:
        """Pre-empt the lowest rank if ``request`` may take its place. Returns whether it was."""
        if not self._may_preempt(request):
            return False
        self._preempt(self.running[-1])
        return True

    def _make_room(self, request: Request, num_tokens: int) -> bool:
        """Pre-empt from the low end until the tokens fit. False if that took ``request`` itself."""
        while not self._kv.extend(request, num_tokens):
            victim = self.running[-1]
            self._preempt(victim)
            if victim is request:
                return False
        return True

    def _preempt(self, victim: Request) -> None:
        self.running.remove(victim)
        self._kv.release(victim)
        self.waiting.add(victim)
        self._preempted.append(victim)
        self.counters.num_preemptions += 1

    def _remove(self, request: Request) -> None:
        self._kv.release(request)
        if request in self.paused:
            self.paused.remove(request)
        elif request in self.waiting:
            self.waiting.remove(request)
        else:
            self.running.remove(request)
        self._service.end(request.tenant)
        assert request.finish_reason is not None
        self.counters.finish(request.finish_reason.value)
        self._note_times(request)

    def _note_times(self, request: Request) -> None:
        """Count how long an ended request took, if it was let in."""
        if request.scheduled_at is None:
            return
        now, counters = self._clock(), self.counters
        counters.inference_s.observe(now - request.scheduled_at)
        if request.prefilled_at is not None:
            counters.prefill_s.observe(request.prefilled_at - request.scheduled_at)
            if request.num_output_tokens:
                counters.decode_s.observe(now - request.prefilled_at)

    def _allot(self) -> list[int]:
        """Tokens of each that runs. Where a prompt is scored, the rows of a step are divided like its tokens."""
        missing = [_missing(r) for r in self.running]
        if max(missing, default=0) > 1:
            wanted = [r.num_unscored_tokens + 1 for r in self.running]
            rows = allot(wanted, self._limits.max_rows)
            missing = [m - w + n for m, w, n in zip(missing, wanted, rows, strict=True)]
        return allot(missing, self._limits.max_tokens)

    @staticmethod
    def _sequence(request: Request, num_tokens: int) -> ScheduledSequence:
        stop = request.num_computed_tokens + num_tokens
        is_sampled = stop == request.num_tokens < request.max_tokens
        if request.prompt_logprobs is None:
            return ScheduledSequence(request, num_tokens, is_sampled)
        scored = range(len(request.prompt_logprobs), min(stop, request.num_prompt_tokens - 1))
        return ScheduledSequence(request, num_tokens, is_sampled, scored)


def _missing(request: Request) -> int:
    return request.num_tokens - request.num_computed_tokens


def _keep_scores(scored: Sequence[tuple[Request, range]], sampled: SampledTokens, row: int) -> None:
    """Take over what rows from ``row`` on say of prompts. One choice may have found already what another finds too."""
    for request, positions in scored:
        known, count = request.prompt_logprobs, request.params.prompt_logprobs
        assert known is not None and count is not None and positions.start <= len(known)
        for position in range(len(known), positions.stop):
            known.append(_token_logprob(sampled, row + position - positions.start, count))
        row += len(positions)


def _token_logprob(sampled: SampledTokens, row: int, count: int) -> TokenLogprob:
    top_ids, top_logprobs = sampled.top_ids[row, :count].tolist(), sampled.top_logprobs[row, :count].tolist()
    top = tuple(zip(top_ids, top_logprobs, strict=True))
    return TokenLogprob(int(sampled.token_ids[row]), float(sampled.logprobs[row]), top)
