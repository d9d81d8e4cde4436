"""The caller's end of a request: tokens become text, text becomes chunks, stop strings end it."""

from __future__ import annotations

from collections import deque
from typing import Protocol

from lepton_ai.engine.outputs import Chunk, TokenLogprob, Usage
from lepton_ai.engine.request import FinishReason
from lepton_ai.engine.sampling_params import SamplingParams
from lepton_ai.errors import LeptonError


class TextDecoder(Protocol):
    """Turns the tokens of one generation into text, without what a stop string cuts off."""

    @property
    def is_stopped(self) -> bool:
        """Whether a stop string was found; no more text comes."""
        ...

    def push(self, token_id: int) -> str:
        """The text that is certain now; it may hold back what a stop string or a character could still need."""
        ...

    def finish(self) -> str:
        """What was held back, at the end of the tokens."""
        ...


class Generation:
    """One request with its text so far, as its caller has it.

    Whoever gets tokens from the engine pushes; the caller takes. Deque operations are atomic, so neither locks.
    ``finish_reason`` is there when ``is_finished`` is, also after a failure.
    ``num_output_tokens`` are those that were sampled, whether or not their chunks were taken. ``prompt_logprobs`` come
    with the first chunk, and must be known by then.
    """

    def __init__(
        self, params: SamplingParams, num_prompt_tokens: int, stop_ids: frozenset[int], decoder: TextDecoder
    ) -> None:
        self.chunks: deque[Chunk] = deque()
        self.error: BaseException | None = None
        self.is_finished = False
        self.finish_reason: FinishReason | None = None
        self.num_prompt_tokens = num_prompt_tokens
        self.num_output_tokens = 0
        self.num_cached_tokens = 0
        self.prompt_logprobs: tuple[TokenLogprob | None, ...] | None = None
        self.has_begun = False
        self._params = params
        self._stop_ids = stop_ids
        self._decoder = decoder

    def push(self, token_id: int | None, logprob: TokenLogprob | None, reason: FinishReason | None) -> None:
        """Take in a token, or the end without one; ``is_finished`` says whether it was the last."""
        if token_id is None:
            assert reason is not None
            return self.finish(reason)
        self.num_output_tokens += 1
        is_end = reason is FinishReason.STOP and token_id in self._stop_ids
        text = "" if is_end else self._decoder.push(token_id)
        if self._decoder.is_stopped:
            reason = FinishReason.STOP
        logprobs = () if logprob is None else (logprob,)
        if reason:
            self._end(reason, text, (token_id,), logprobs)
        else:
            self._emit(text, (token_id,), logprobs)

    def finish(self, reason: FinishReason) -> None:
        """Make the last chunk, with what was held back, after the last token."""
        self._end(reason, "", (), ())

    def fail(self, error: BaseException) -> None:
        """End without a last chunk: the caller gets ``error``."""
        self.error = error
        self.finish_reason = FinishReason.ERROR
        self.is_finished = True

    @property
    def usage(self) -> Usage:
        """Token counts so far."""
        return Usage(
            prompt_tokens=self.num_prompt_tokens,
            completion_tokens=self.num_output_tokens,
            cached_tokens=self.num_cached_tokens,
        )

    def take(self) -> Chunk | None:
        """The next chunk, None after the last; there must be one, or an end. Raises LeptonError after a failure."""
        if self.chunks:
            return self.chunks.popleft()
        assert self.is_finished
        if isinstance(self.error, LeptonError):
            raise self.error
        if self.error is not None:
            raise LeptonError(f"the engine stopped: {self.error!r}") from self.error
        return None

    def _end(
        self, reason: FinishReason, text: str, token_ids: tuple[int, ...], logprobs: tuple[TokenLogprob, ...]
    ) -> None:
        held_back = "" if self._decoder.is_stopped else self._decoder.finish()
        self._emit(text + held_back, token_ids, logprobs, reason.value, self.usage)
        self.finish_reason = reason
        self.is_finished = True

    def _emit(
        self,
        text: str,
        token_ids: tuple[int, ...],
        logprobs: tuple[TokenLogprob, ...],
        finish_reason: str | None = None,
        usage: Usage | None = None,
    ) -> None:
        known = logprobs if self._params.logprobs is not None else None
        of_prompt = None if self.has_begun else self.prompt_logprobs
        self.has_begun = True
        self.chunks.append(Chunk(text, token_ids, known, finish_reason, usage, of_prompt))
