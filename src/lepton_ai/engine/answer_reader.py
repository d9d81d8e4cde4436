"""The chunks of one generation as pieces of an answer: reasoning, text, and calls of tools."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lepton_ai.engine.outputs import Chunk, TokenLogprob, Usage
from lepton_ai.text.answer_parser import AnswerParser, Piece, PieceKind
from lepton_ai.text.stop_strings import StopMatcher


@dataclass(frozen=True, slots=True)
class AnswerEnd:
    """How an answer ended. ``reasoning_tokens`` are among the completion's."""

    finish_reason: str
    usage: Usage
    reasoning_tokens: int


@dataclass(frozen=True, slots=True)
class AnswerChunk:
    """What a chunk brought. ``logprobs``, if asked for, are of the tokens of text alone."""

    pieces: Sequence[Piece]
    logprobs: tuple[TokenLogprob, ...] = ()
    end: AnswerEnd | None = None


class AnswerReader:
    """Reads one answer. Stop strings are looked for in its text alone, after ``min_tokens`` tokens.

    Once ``is_stopped``, whoever reads cancels the generation, and goes on to push its chunks up to the last.
    """

    def __init__(self, parser: AnswerParser, stops: Sequence[str], *, min_tokens: int = 0) -> None:
        self._parser = parser
        self._stop_strings = stops
        self._stops = StopMatcher(stops)
        self._num_early = min_tokens
        self._num_tokens = 0
        self._num_reasoning = 0
        self._has_calls = False
        self._pending: list[TokenLogprob] = []

    @property
    def is_stopped(self) -> bool:
        """Whether a stop string was found."""
        return self._stops.matched is not None

    def push(self, chunk: Chunk) -> AnswerChunk:
        """What is known after a chunk."""
        if self.is_stopped:
            return AnswerChunk((), end=self._end_of(chunk))
        self._num_tokens += len(chunk.token_ids)
        if self._parser.is_reasoning:
            self._num_reasoning += len(chunk.token_ids)
        if chunk.finish_reason is None and chunk.logprobs is None and not self._stop_strings:
            return AnswerChunk(self._noted(self._parser.push(chunk.text)))
        is_last = chunk.finish_reason is not None
        pieces = self._stopped(self._parser.push(chunk.text))
        if is_last and not self.is_stopped:
            pieces += self._stopped(self._parser.finish(is_cut=chunk.finish_reason != "stop"))
            pieces = _with_text(pieces, "" if self.is_stopped else self._stops.finish())
        logprobs = self._logprobs_of(chunk, self._noted(pieces), is_last=is_last)
        return AnswerChunk(pieces, logprobs, self._end_of(chunk))

    def _noted(self, pieces: list[Piece]) -> list[Piece]:
        for piece in pieces:
            if piece.kind is PieceKind.CALL:
                self._has_calls = True
        return pieces

    def _stopped(self, pieces: Sequence[Piece]) -> list[Piece]:
        """The pieces up to a stop string."""
        if self._num_tokens <= self._num_early:
            return [*pieces]
        kept: list[Piece] = []
        for piece in pieces:
            if piece.kind is PieceKind.TEXT:
                kept = _with_text(kept, self._stops.feed(piece.text))
                if self.is_stopped:
                    break
            else:
                kept = [*_with_text(kept, self._unstopped()), piece]
        return kept

    def _unstopped(self) -> str:
        """The text that became no stop string, since something else follows it."""
        held = self._stops.finish()
        if held:
            self._stops = StopMatcher(self._stop_strings)
        return held

    def _logprobs_of(self, chunk: Chunk, pieces: Sequence[Piece], *, is_last: bool) -> tuple[TokenLogprob, ...]:
        """Those of a token whose text is held back come with its text, or never."""
        self._pending += chunk.logprobs or ()
        has_text = any(piece.kind is PieceKind.TEXT for piece in pieces)
        may_come = self._parser.is_text and (self._parser.is_holding or not chunk.text)
        if may_come and not has_text and not is_last and not self.is_stopped:
            return ()
        known = tuple(self._pending) if has_text or may_come else ()
        self._pending.clear()
        return known

    def _end_of(self, chunk: Chunk) -> AnswerEnd | None:
        if chunk.finish_reason is None or chunk.usage is None:
            return None
        usage = replace(chunk.usage, completion_tokens=self._num_tokens)
        reason = "stop" if self.is_stopped else chunk.finish_reason
        if reason == "stop" and self._has_calls:
            reason = "tool_calls"
        return AnswerEnd(reason, usage, self._num_reasoning)


def _with_text(pieces: list[Piece], text: str) -> list[Piece]:
    return [*pieces, Piece(PieceKind.TEXT, text)] if text else pieces
