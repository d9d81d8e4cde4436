"""What runs next: first come, first served, within a budget of tokens a step.

There is no prefill phase and no decode phase. A request has tokens and a number of computed tokens; every step hands
each request, oldest first, as many of the missing ones as the budget allows. If blocks run out, the youngest request
gives its own back and is computed again later: the oldest always advances.
"""

from __future__ import annotations

from collections import deque

from lepton_ai.backends.base import BLOCK_SIZE, SampledTokens
from lepton_ai.config import Limits
from lepton_ai.engine.kv_manager import KVManager
from lepton_ai.engine.outputs import TokenLogprob
from lepton_ai.engine.plan import ScheduledSequence, StepPlan, TokenOutput
from lepton_ai.engine.request import FinishReason, Request
from lepton_ai.errors import ContextLengthExceeded, OutOfMemory


class Scheduler:
    """Holds the unfinished requests. Both queues are ordered by age, and whoever runs is older than whoever waits."""

    def __init__(self, kv: KVManager, limits: Limits) -> None:
        self.waiting: deque[Request] = deque()
        self.running: list[Request] = []
        self.num_preemptions = 0
        self._num_arrivals = 0
        self._kv = kv
        self._limits = limits

    @property
    def has_work(self) -> bool:
        """Whether any request is unfinished."""
        return bool(self.running or self.waiting)

    def check(self, num_prompt_tokens: int, max_tokens: int) -> None:
        """Raise ContextLengthExceeded if ``max_tokens`` in all exceed the context, OutOfMemory if the KV memory."""
        if max_tokens > self._limits.max_model_len:
            raise ContextLengthExceeded(
                f"max_tokens: {num_prompt_tokens} prompt tokens and {max_tokens - num_prompt_tokens} to generate "
                f"exceed the context of {self._limits.max_model_len} tokens",
                param="max_tokens",
            )
        if max_tokens > self.max_request_tokens:
            raise OutOfMemory(
                f"max_tokens: {max_tokens} tokens with the prompt exceed the KV memory, which holds "
                f"{self.max_request_tokens}; raise kv_memory_bytes or ask for fewer",
                param="max_tokens",
            )

    @property
    def max_request_tokens(self) -> int:
        """The longest request that fits, prompt and output. The KV of the last token is never computed."""
        return min(self._limits.max_model_len, self._kv.num_tokens + 1)

    def add(self, request: Request) -> None:
        """Queue a request, younger than all others, whose size ``check`` accepts."""
        self.check(request.num_prompt_tokens, request.max_tokens)
        request.arrival = self._num_arrivals
        self._num_arrivals += 1
        self.waiting.append(request)

    def schedule(self) -> StepPlan:
        """Choose the next step and take the blocks it needs. The plan is empty only if there is no work."""
        planned: list[ScheduledSequence] = []
        budget = self._limits.max_tokens
        index, num_preemptions = 0, self.num_preemptions
        while index < len(self.running) and budget:
            request = self.running[index]
            num_tokens = min(request.num_tokens - request.num_computed_tokens, budget)
            if not self._make_room(request, num_tokens):
                break
            planned.append(self._sequence(request, num_tokens))
            budget -= num_tokens
            index += 1
        is_crowded = self.num_preemptions > num_preemptions
        while self.waiting and budget and not is_crowded and len(self.running) < self._limits.max_seqs:
            request = self.waiting[0]
            num_tokens = self._admit(request, budget)
            if not num_tokens:
                break
            self.running.append(self.waiting.popleft())
            planned.append(self._sequence(request, num_tokens))
            budget -= num_tokens
        assert planned or not self.has_work, "no request can advance"
        return StepPlan(tuple(planned))

    def update(self, plan: StepPlan, sampled: SampledTokens | None) -> list[TokenOutput]:
        """Account for an executed plan; ``sampled`` has one row for each sequence with ``has_row``."""
        outputs: list[TokenOutput] = []
        token_ids = sampled.token_ids.tolist() if sampled else []
        for sequence in plan.sequences:
            request = sequence.request
            request.num_computed_tokens += sequence.num_tokens
            if request.num_computed_tokens // BLOCK_SIZE > request.num_registered_blocks:
                self._kv.commit(request)
            if not sequence.has_row:
                continue
            assert sampled is not None
            row = len(outputs)
            request.append(token_ids[row])
            count = request.params.logprobs
            logprob = None if count is None else _token_logprob(sampled, row, count)
            outputs.append(TokenOutput(request, token_ids[row], logprob, request.finish_reason))
            if request.finish_reason:
                self._remove(request)
        return outputs

    def finish(self, request: Request, reason: FinishReason) -> None:
        """End a request between two steps; its blocks are free at once. One that has ended already stays as it is."""
        if request.finish_reason is None:
            request.finish_reason = reason
            self._remove(request)

    def check_integrity(self) -> None:
        """Assert that queues and blocks agree."""
        self._kv.check_integrity(self.running)
        everyone = [*self.running, *self.waiting]
        assert [r.arrival for r in everyone] == sorted({r.arrival for r in everyone}), "requests are out of order"
        for request in self.waiting:
            assert not request.block_tables and request.num_computed_tokens == 0
        assert all(r.finish_reason is None for r in everyone)

    def _admit(self, request: Request, budget: int) -> int:
        """Start a waiting request with as many tokens as the budget allows; 0 if there are no blocks for them."""
        self._kv.attach(request)
        num_tokens = min(request.num_tokens - request.num_computed_tokens, budget)
        if not self._kv.extend(request, num_tokens):
            self._kv.release(request)
            return 0
        if request.num_cached_tokens is None:
            request.num_cached_tokens = request.num_computed_tokens
        return num_tokens

    def _make_room(self, request: Request, num_tokens: int) -> bool:
        """Pre-empt from the young end until the tokens fit. False if that took ``request`` itself."""
        while not self._kv.extend(request, num_tokens):
            victim = self.running.pop()
            self._kv.release(victim)
            self.waiting.appendleft(victim)
            self.num_preemptions += 1
            if victim is request:
                return False
        return True

    def _remove(self, request: Request) -> None:
        self._kv.release(request)
        if request in self.running:
            self.running.remove(request)
        else:
            self.waiting.remove(request)

    @staticmethod
    def _sequence(request: Request, num_tokens: int) -> ScheduledSequence:
        return ScheduledSequence(
            request, num_tokens, has_row=request.num_computed_tokens + num_tokens == request.num_tokens
        )


def _token_logprob(sampled: SampledTokens, row: int, count: int) -> TokenLogprob:
    top_ids, top_logprobs = sampled.top_ids[row, :count].tolist(), sampled.top_logprobs[row, :count].tolist()
    top = tuple(zip(top_ids, top_logprobs, strict=True))
    return TokenLogprob(int(sampled.token_ids[row]), float(sampled.logprobs[row]), top)
