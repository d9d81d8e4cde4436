"""A model in an engine's process, with the numbers under which its client knows its requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np

from lepton_ai.engine.constraints.constraint import Constraint
from lepton_ai.engine.constraints.token_matcher import TokenMatcher
from lepton_ai.engine.engine import Engine
from lepton_ai.engine.plan import TokenOutput
from lepton_ai.engine.remote.link import MAX_MESSAGE_BYTES
from lepton_ai.engine.remote.messages import (
    Cancelled,
    Classes,
    Classify,
    Embed,
    ErrorMessage,
    Event,
    Failed,
    Loaded,
    Submit,
    Token,
    TokenClasses,
    Tokens,
    Vectors,
    decode_params,
    decode_text,
)
from lepton_ai.engine.request import FinishReason, Request
from lepton_ai.engine.stats import EngineStats
from lepton_ai.engine.text_encoder import TextEncoder
from lepton_ai.errors import InvalidRequest

_MAX_LOGPROBS = MAX_MESSAGE_BYTES // 32
"""Of a prompt, in one message: each takes a number of at most 5 bytes, one of 9, and what holds them together."""


class HostedGenerator:
    """An engine. ``prepare`` may run in any thread, everything else in the one that leads the process."""

    Prepared: TypeAlias = list[Request]

    def __init__(
        self,
        loaded: Loaded,
        engine: Engine,
        compile_constraint: Callable[[Constraint], TokenMatcher],
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self.loaded = loaded
        self.close = close
        self._engine = engine
        self._compile = compile_constraint
        self._requests: dict[int, Request] = {}
        self._ids: dict[Request, int] = {}

    @property
    def has_work(self) -> bool:
        """Whether a step would do anything."""
        return self._engine.scheduler.has_work

    def prepare(self, command: Submit) -> Prepared:
        """Checked requests for each of the command's ids; changes nothing. Raises like ``Engine.make_request``."""
        params = decode_params(command.params)
        matcher = None if params.constraint is None else self._compile(params.constraint)
        prompt = np.frombuffer(command.prompt, np.int32)
        if params.prompt_logprobs is not None:
            _check_fits(len(prompt) * (params.prompt_logprobs + 1))
        first = self._engine.make_request(prompt, params, command.options, matcher)
        return [first, *(first.sibling(index) for index in range(1, len(command.ids)))]

    def add(self, ids: list[int], requests: Prepared) -> None:
        """Queue requests under new numbers."""
        for id_, request in zip(ids, requests, strict=True):
            self._engine.add(request)
            self._requests[id_] = request
            self._ids[request] = id_

    def cancel(self, ids: list[int]) -> Iterator[Event]:
        """End those that are here."""
        for id_ in ids:
            request = self._requests.pop(id_, None)
            if request is not None:
                del self._ids[request]
                self._engine.finish(request, FinishReason.CANCELLED)
                yield Cancelled(id_, request.num_cached_tokens or 0)

    def cancel_all(self) -> Iterator[Event]:
        """End all that are here."""
        return self.cancel(list(self._requests))

    def pause(self, id_: int) -> None:
        """Let one wait, if it is here."""
        if id_ in self._requests:
            self._engine.scheduler.pause(self._requests[id_])

    def resume(self, id_: int) -> None:
        """Let one go on, if it is here."""
        if id_ in self._requests:
            self._engine.scheduler.resume(self._requests[id_])

    def step(self) -> Iterator[Event]:
        """Run a step. If it fails, so does every request, and the engine starts afresh."""
        try:
            outputs = self._engine.step()
        except Exception as error:
            failed = ErrorMessage("internal_error", f"the engine stopped: {error!r}", None)
            yield from (Failed(id_, failed) for id_ in self._requests)
            self._requests.clear()
            self._ids.clear()
            self._engine.reset()
            return
        if outputs:
            yield from self._events(outputs)

    def stats(self) -> EngineStats:
        """Of the engine."""
        return self._engine.scheduler.stats()

    def check_integrity(self) -> None:
        """Assert the engine's invariants, and that it has the requests that this has."""
        scheduler = self._engine.scheduler
        scheduler.check_integrity()
        assert set(self._ids) == {*scheduler.running, *scheduler.waiting, *scheduler.paused}, "a request is lost"

    def _events(self, outputs: list[TokenOutput]) -> Iterator[Event]:
        tokens: list[Token] = []
        for request, token_id, logprob, reason in outputs:
            id_ = self._ids[request]
            if request.error is not None:
                error = request.error
                yield Failed(id_, ErrorMessage(error.code, error.message, error.param))
            else:
                finish_reason = None if reason is None else reason.value
                of_prompt = request.known_prompt_logprobs if request.num_output_tokens <= 1 else None
                cached = request.num_cached_tokens or 0
                token = Token(id_, token_id, finish_reason, cached, logprob, of_prompt)
                if of_prompt is None:
                    tokens.append(token)
                else:  # in a message of its own: those of several completions may be too long for one
                    yield Tokens([token])
            if reason is not None:
                del self._requests[id_], self._ids[request]
        yield Tokens(tokens)


class HostedEncoder:
    """An encoder; ``run`` may be called from any thread."""

    has_work = False

    def __init__(self, loaded: Loaded, encoder: TextEncoder, close: Callable[[], None] = lambda: None) -> None:
        self.loaded = loaded
        self.close = close
        self._encoder = encoder

    def step(self) -> Iterator[Event]:
        """Nothing: texts run when they come."""
        return iter(())

    def run(self, command: Embed | Classify) -> Event:
        """The answer. Raises like ``LLM.embed`` and ``LLM.classify``."""
        texts = [decode_text(text) for text in command.texts]
        if isinstance(command, Embed):
            rows = self._encoder.embed(
                texts, pooling=command.pooling, normalize=command.normalize, max_length=command.max_length
            )
            return Vectors(command.id, len(rows), rows.tobytes())
        if command.per_token:
            return TokenClasses(command.id, self._encoder.classify_tokens(texts, max_length=command.max_length))
        return Classes(command.id, self._encoder.classify(texts, max_length=command.max_length))


def _check_fits(num_logprobs: int) -> None:
    """Raise InvalidRequest where the log-probabilities of a prompt are too long for a message."""
    if num_logprobs > _MAX_LOGPROBS:
        raise InvalidRequest(
            f"prompt_logprobs: expected at most {_MAX_LOGPROBS} for a prompt, got {num_logprobs}",
            param="prompt_logprobs",
        )


HostedModel: TypeAlias = HostedGenerator | HostedEncoder
"""What a process can host."""
