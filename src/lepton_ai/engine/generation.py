"""The caller's end of a request: tokens become text, text becomes chunks, stop strings end it."""

from __future__ import annotations

from collections import deque
from typing import Protocol

from lepton_ai.engine.outputs import Chunk, TokenLogprob, Usage
from lepton_ai.engine.plan import TokenOutput
from lepton_ai.engine.request import FinishReason, Request


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
    """One request with its text so far.

    The thread that runs a step pushes; the caller takes. Deque operations are atomic, so neither locks.
    """

    def __init__(self, request: Request, decoder: TextDecoder) -> None:
        self.request = request
        self.chunks: deque[Chunk] = deque()
        self.error: BaseException | None = None
        self.is_finished = False
        self._decoder = decoder

    def push(self, output: TokenOutput) -> None:
        """Take in a token; ``is_finished`` says whether it was the last."""
        reason = output.finish_reason
        if reason is FinishReason.ERROR:
            assert self.request.error is not None
            return self.fail(self.request.error)
        is_end = reason is FinishReason.STOP and output.token_id in self.request.stop_ids
        text = "" if is_end else self._decoder.push(output.token_id)
        if self._decoder.is_stopped:
            reason = FinishReason.STOP
        if reason:
            self.finish(reason, output, text)
        else:
            self._emit(text, output)

    def finish(self, reason: FinishReason, output: TokenOutput | None = None, text: str = "") -> None:
        """Make the last chunk: the last token, if there is one, with ``text``, and what was held back."""
        held_back = "" if self._decoder.is_stopped else self._decoder.finish()
        request = self.request
        usage = Usage(
            prompt_tokens=request.num_prompt_tokens,
            completion_tokens=request.num_tokens - request.num_prompt_tokens,
            cached_tokens=request.num_cached_tokens or 0,
        )
        self._emit(text + held_back, output, reason.value, usage)
        self.is_finished = True

    def fail(self, error: BaseException) -> None:
        """End without a last chunk: the caller gets ``error``."""
        self.error = error
        self.is_finished = True

    def _emit(
        self, text: str, output: TokenOutput | None, finish_reason: str | None = None, usage: Usage | None = None
    ) -> None:
        logprobs: tuple[TokenLogprob, ...] | None = None
        if self.request.params.logprobs is not None:
            logprobs = () if output is None or output.logprob is None else (output.logprob,)
        token_ids = () if output is None else (output.token_id,)
        self.chunks.append(Chunk(text, token_ids, logprobs, finish_reason, usage))
