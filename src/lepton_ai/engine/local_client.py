"""Talks to an engine of this process on behalf of any number of threads.

There is no engine thread: whoever waits for a token takes a turn and runs a step for everybody, then the next. A single
caller pays no hand-over, an interrupt reaches the caller itself, and nothing runs when nobody waits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lepton_ai.backends.base import Int32Array
from lepton_ai.engine.client import EngineClient
from lepton_ai.engine.constraints.constraint import Constraint
from lepton_ai.engine.constraints.token_matcher import TokenMatcher
from lepton_ai.engine.engine import Engine
from lepton_ai.engine.generation import Generation, TextDecoder
from lepton_ai.engine.outputs import Chunk
from lepton_ai.engine.plan import TokenOutput
from lepton_ai.engine.request import FinishReason, Request
from lepton_ai.engine.request_options import RequestOptions
from lepton_ai.engine.sampling_params import SamplingParams
from lepton_ai.engine.stats import EngineStats
from lepton_ai.engine.turns import Turns
from lepton_ai.errors import InvalidRequest, LeptonError

if TYPE_CHECKING:
    from lepton_ai.engine.trace import StepObserver

MakeDecoder = Callable[[SamplingParams], TextDecoder]
CompileConstraint = Callable[[Constraint], TokenMatcher]


class LocalGeneration(Generation):
    """A generation and the engine's end of it."""

    def __init__(self, request: Request, decoder: TextDecoder) -> None:
        super().__init__(request.params, request.num_prompt_tokens, request.stop_ids, decoder)
        self.request = request

    def describe(self) -> None:
        """Take over what the engine knows by now."""
        self.num_cached_tokens = self.request.num_cached_tokens or 0
        if not self.has_begun:
            self.prompt_logprobs = self.request.known_prompt_logprobs


class LocalClient(EngineClient):
    """Has the engine in its process."""

    def __init__(self, engine: Engine, make_decoder: MakeDecoder, compile_constraint: CompileConstraint) -> None:
        self._engine = engine
        self._compile = compile_constraint
        self._make_decoder = make_decoder
        self._turns = Turns()
        # Written by any thread (a signal handler too), emptied by the one that has the turn.
        self._submitted: deque[LocalGeneration] = deque()
        self._cancelled: deque[LocalGeneration] = deque()
        self._active: dict[Request, LocalGeneration] = {}
        self._is_closed = False

    def submit_all(
        self,
        prompts: Sequence[Sequence[int] | Int32Array],
        params: Sequence[SamplingParams],
        options: RequestOptions | None = None,
    ) -> list[LocalGeneration]:
        """Queue several, ``num_generations`` for each prompt in turn, or none if one is refused."""
        self._check_open()
        generations: list[LocalGeneration] = []
        for ids, each in zip(prompts, params, strict=True):
            matcher = None if each.constraint is None else self._compile(each.constraint)
            first = self._engine.make_request(ids, each, options, matcher)
            siblings = [first.sibling(index) for index in range(1, each.num_generations)]
            generations += [LocalGeneration(request, self._make_decoder(each)) for request in (first, *siblings)]
        self._submitted.extend(generations)
        return generations

    def next_chunk(self, generation: Generation) -> Chunk | None:
        """Wait for the next piece; None after the last. Raises LeptonError if the engine failed under it."""
        while not generation.chunks and not generation.is_finished:
            self._check_open()
            if self._turns.take(lambda: bool(generation.chunks) or generation.is_finished):
                try:
                    self._step()
                finally:
                    self._turns.give()
        return generation.take()

    async def next_chunk_async(self, generation: Generation) -> Chunk | None:
        """The same for a coroutine: steps run in a thread of the event loop's own."""
        import asyncio  # who is in a coroutine has it already; the command line need not load it

        try:
            return await asyncio.to_thread(self.next_chunk, generation)
        except asyncio.CancelledError:
            self.cancel(generation)  # the thread is then free after the step under way
            raise

    def cancel(self, generation: Generation) -> None:
        """End a generation before the next step. Never waits, so a signal handler may call it."""
        assert isinstance(generation, LocalGeneration)
        if not generation.is_finished:
            self._cancelled.append(generation)

    def fail(self, generation: Generation, error: LeptonError) -> None:
        """End a generation: who takes its next chunk gets ``error``. See ``EngineClient``."""
        assert isinstance(generation, LocalGeneration)
        with self._turns.turn():
            self._take_in()
            if self._active.pop(generation.request, None):
                self._engine.finish(generation.request, FinishReason.CANCELLED)
                generation.fail(error)

    def close_generation(self, generation: Generation) -> None:
        """End a generation, wait at most for the step under way, and free all it holds."""
        if not generation.is_finished:
            self.cancel(generation)
            with self._turns.turn():
                self._take_in()

    @contextmanager
    def between_steps(self) -> Iterator[None]:
        """Have the device for a short while: no step runs meanwhile. Do not wait for chunks inside."""
        self._check_open()
        with self._turns.turn():
            yield

    @contextmanager
    def trace(self, observer: StepObserver) -> Iterator[None]:
        """Tell ``observer`` of each step that runs meanwhile, in the thread that ran it."""
        with self.between_steps():
            self._engine.start_trace(observer)
        try:
            yield
        finally:
            with self._turns.turn():
                self._engine.stop_trace(observer)

    def close(self) -> None:
        """Cancel everything; afterwards each use raises InvalidRequest."""
        with self._turns.turn():
            self._is_closed = True
            self._cancelled.extend([*self._submitted, *self._active.values()])
            self._take_in()

    def stats(self) -> EngineStats:
        """Counts and state, from any thread, without waiting for the step under way."""
        return self._engine.scheduler.stats()

    def check_integrity(self) -> None:
        """Assert the engine's invariants."""
        with self._turns.turn():
            self._take_in()
            self._engine.scheduler.check_integrity()
            assert len(self._active) == len(self._engine.scheduler.running) + len(self._engine.scheduler.waiting)

    def _step(self) -> None:
        """Run a step and hand out its tokens. If it is broken off, every request fails and the engine starts afresh."""
        try:
            self._take_in()
            for output in self._engine.step():
                self._hand_out(output)
            if self._engine.tracer is not None:
                self._engine.tracer.end_step()
        except BaseException as error:
            for generation in (*self._submitted, *self._active.values()):
                generation.fail(error)
            self._submitted.clear()
            self._active.clear()
            self._engine.reset()
            raise

    def _hand_out(self, output: TokenOutput) -> None:
        request = output.request
        generation = self._active[request]
        if request.error is not None:
            generation.fail(request.error)
        else:
            generation.describe()
            generation.push(output.token_id, output.logprob, output.finish_reason)
        if generation.is_finished:
            self._engine.finish(request, FinishReason.STOP)
            del self._active[request]

    def _take_in(self) -> None:
        """Queue what was submitted and end what was cancelled since the last step."""
        while self._submitted:
            generation = self._submitted[0]
            self._engine.add(generation.request)
            self._active[generation.request] = generation
            self._submitted.popleft()
        for _ in range(len(self._cancelled)):
            generation = self._cancelled.popleft()
            if self._active.pop(generation.request, None):
                self._engine.finish(generation.request, FinishReason.CANCELLED)
                generation.describe()
                generation.finish(FinishReason.CANCELLED)
            elif not generation.is_finished:  # submitted and cancelled while the loop above ended
                self._cancelled.append(generation)

    def _check_open(self) -> None:
        if self._is_closed:
            raise InvalidRequest("this LLM is closed")
