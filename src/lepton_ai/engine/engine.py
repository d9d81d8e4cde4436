"""The engine: one step is schedule, execute, update."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lepton_ai.backends.base import Executable, Int32Array, KVCache
from lepton_ai.config import Limits
from lepton_ai.engine.constraints.token_matcher import TokenMatcher
from lepton_ai.engine.kv.group import KVGroup
from lepton_ai.engine.kv.manager import KVManager
from lepton_ai.engine.plan import TokenOutput
from lepton_ai.engine.request import FinishReason, Request
from lepton_ai.engine.request_options import RequestOptions
from lepton_ai.engine.runner import Runner
from lepton_ai.engine.sampling_params import SamplingParams
from lepton_ai.engine.scheduling.scheduler import Scheduler
from lepton_ai.errors import ContextLengthExceeded, InvalidRequest

if TYPE_CHECKING:
    from lepton_ai.engine.trace import StepObserver, StepTracer


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """What an engine must know of its model. ``limits.max_model_len`` counts prompt and output of one request.

    ``kv_windows`` are those of the KV groups, in their order: how many last positions a query sees, None for all.
    """

    limits: Limits
    vocab_size: int
    eos_ids: frozenset[int]
    kv_windows: tuple[int | None, ...] = (None,)


class Engine:
    """Requests in, tokens out. Not safe for several threads: see LocalClient."""

    def __init__(self, executable: Executable, cache: KVCache, config: EngineConfig) -> None:
        self.config = config
        self.tracer: StepTracer | None = None
        self._executable = executable
        self._cache = cache
        self._eos_ids = frozenset(i for i in config.eos_ids if i < config.vocab_size)
        self._runner = Runner(executable, cache, config.limits, num_kv_groups=len(config.kv_windows))
        self.scheduler = self._new_scheduler()

    def make_request(
        self,
        prompt_ids: Sequence[int] | Int32Array,
        params: SamplingParams,
        options: RequestOptions | None = None,
        matcher: TokenMatcher | None = None,
    ) -> Request:
        """A checked request, not queued yet; changes nothing.

        Raises InvalidRequest for an empty prompt, or an unknown id in it or in ``params``, ContextLengthExceeded if
        prompt and ``max_tokens`` exceed the context, OutOfMemory if they exceed the KV memory.
        """
        ids = check_token_ids(prompt_ids, vocab_size=self.config.vocab_size, name="prompt")
        num_least_output = 0 if params.max_tokens == 0 else 1
        if len(ids) + num_least_output > self.config.limits.max_model_len:
            raise ContextLengthExceeded(
                f"prompt: {len(ids)} tokens leave no room in the context of {self.config.limits.max_model_len}",
                param="prompt",
            )
        for name, named in (("logit_bias", params.logit_bias or ()), ("stop_token_ids", params.stop_ids)):
            if unknown := [token_id for token_id in named if token_id >= self.config.vocab_size]:
                expected = f"expected token ids from 0 to {self.config.vocab_size - 1}"
                raise InvalidRequest(f"{name}: {expected}, got {unknown[0]}", param=name)
        if params.max_tokens is None:
            end = max(self.scheduler.max_request_tokens, len(ids) + 1)
        else:
            end = len(ids) + params.max_tokens
        self.scheduler.check(len(ids), end)
        return Request.create(ids, params, max_tokens=end, eos_ids=self._eos_ids, options=options, matcher=matcher)

    def add(self, request: Request) -> None:
        """Queue a request that ``make_request`` made."""
        self.scheduler.add(request)
        if self.tracer is not None:
            self.tracer.arrive(request)

    def finish(self, request: Request, reason: FinishReason) -> None:
        """End a request now; all it holds is free."""
        self.scheduler.finish(request, reason)

    def step(self) -> list[TokenOutput]:
        """Run one step; without work, nothing happens."""
        if self.tracer is not None:
            return self.tracer.step(self.scheduler, self._runner)
        plan = self.scheduler.schedule()
        if not plan.sequences:
            return []
        sampled = self._runner.execute(plan)
        return self.scheduler.update(plan, sampled)

    def start_trace(self, observer: StepObserver) -> None:
        """Tell ``observer`` of each step from now on. Whoever calls ``step`` then ends it with ``tracer.end_step``."""
        if self.tracer is None:
            from lepton_ai.engine.trace import StepTracer  # few are traced

            self.tracer = StepTracer(self._executable)
        self.tracer.observers.append(observer)

    def stop_trace(self, observer: StepObserver) -> None:
        """Tell it no more."""
        assert self.tracer is not None, "no trace is under way"
        self.tracer.observers.remove(observer)
        if not self.tracer.observers:
            self.tracer.close()
            self.tracer = None

    def reset(self) -> None:
        """Forget all requests and all cached prefixes: the way back from a step that was broken off."""
        self.scheduler = self._new_scheduler()
        if self.tracer is not None:
            self.tracer.forget()

    def _new_scheduler(self) -> Scheduler:
        config = self.config
        groups = [KVGroup(*group) for group in zip(self._cache.num_blocks, config.kv_windows, strict=True)]
        return Scheduler(KVManager(groups), config.limits)


def check_token_ids(token_ids: Sequence[int] | Int32Array, *, vocab_size: int, name: str) -> Int32Array:
    """``token_ids`` as an array. Raises InvalidRequest, naming ``name``, if empty, not integers or out of range."""
    try:
        ids = np.asarray(token_ids)
    except ValueError:
        raise InvalidRequest(f"{name}: expected a flat list of integer token ids", param=name) from None
    if not ids.size:
        raise InvalidRequest(f"{name}: expected at least one token, got none", param=name)
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise InvalidRequest(f"{name}: expected a flat list of integer token ids", param=name)
    unknown = ids[(ids < 0) | (ids >= vocab_size)]
    if unknown.size:
        raise InvalidRequest(f"{name}: expected token ids from 0 to {vocab_size - 1}, got {unknown[0]}", param=name)
    return ids.astype(np.int32)
