"""Answers of models that may reason or call tools: streams of chunks as messages, or as their deltas."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Iterator, Sequence
from dataclasses import dataclass

from lepton_ai.engine.answer_reader import AnswerChunk, AnswerReader
from lepton_ai.engine.outputs import Usage
from lepton_ai.engine.stream import Stream
from lepton_ai.serve.protocol.answers import Head, Json, chat_choice, chat_end, chat_piece, chat_start, usage_of
from lepton_ai.serve.protocol.events import DONE
from lepton_ai.serve.protocol.logprobs import LogprobsWriter
from lepton_ai.serve.protocol.message import DeltaWriter, MessageWriter
from lepton_ai.serve.service import merged
from lepton_ai.text.answer_format import AnswerFormat, Opening
from lepton_ai.text.answer_parser import AnswerParser, PieceKind


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerPlan:
    """How the answers to one request are read. ``answers`` has what may occur in them, and no more.

    ``names`` are those of tools that may be called without marks.
    ``has_named_choice``: the request names the tool to call; the original then gives "stop" as the reason of the end.
    ``logprobs`` None: none were asked for.
    """

    answers: AnswerFormat
    opening: Opening
    stops: Sequence[str]
    min_tokens: int
    has_named_choice: bool
    logprobs: LogprobsWriter | None
    names: Collection[str] = ()

    def reader(self) -> AnswerReader:
        """A reader of one answer."""
        parser = AnswerParser(self.answers.tools, self.answers.reasoning, self.opening, names=self.names)
        return AnswerReader(parser, self.stops, min_tokens=self.min_tokens)

    def finish_reason(self, reason: str) -> str:
        """Why an answer ended, as the original says it."""
        return "stop" if self.has_named_choice and reason == "tool_calls" else reason


class _Tokens:
    """Tokens of all answers to a prompt."""

    def __init__(self, plan: AnswerPlan) -> None:
        self._usages: list[Usage] = []
        self._reasoning = 0
        self._has_reasoning = plan.answers.reasoning is not None

    def add(self, chunk: AnswerChunk) -> None:
        """Count those of an answer, if this is its end."""
        if chunk.end is not None:
            self._usages.append(chunk.end.usage)
            self._reasoning += chunk.end.reasoning_tokens

    def usage(self) -> Json:
        """What was counted."""
        return usage_of([self._usages], reasoning_tokens=self._reasoning if self._has_reasoning else None)


async def whole_answer(plan: AnswerPlan, streams: Sequence[Stream], head: Head) -> Json:
    """The whole answer, once it is there."""
    messages = [MessageWriter() for _ in streams]
    logprobs: list[list[Json]] = [[] for _ in streams]
    reasons = [""] * len(streams)
    tokens = _Tokens(plan)
    async for index, chunk in _chunks(plan, streams):
        for piece in chunk.pieces:
            messages[index].add(piece)
        if plan.logprobs is not None:
            logprobs[index] += plan.logprobs.chat_entries(chunk.logprobs)
        if chunk.end is not None:
            reasons[index] = plan.finish_reason(chunk.end.finish_reason)
        tokens.add(chunk)
    known: list[Json | None] = [
        None if plan.logprobs is None else {"content": entries, "refusal": None} for entries in logprobs
    ]
    made = zip(messages, known, reasons, strict=True)
    return head.answer([chat_choice(i, m.message(), k, r) for i, (m, k, r) in enumerate(made)], tokens.usage())


async def answer_events(plan: AnswerPlan, streams: Sequence[Stream], head: Head) -> AsyncGenerator[bytes, None]:
    """The same as events, as it comes."""
    for index in range(len(streams)):
        yield head.event([chat_start(index, None)])
    choices = [_ChoiceWriter(plan, index) for index in range(len(streams))]
    tokens = _Tokens(plan)
    async for index, chunk in _chunks(plan, streams):
        for piece in choices[index].pieces(chunk):
            yield head.event([piece])
        tokens.add(chunk)
    if head.has_usage:
        yield head.event([], tokens.usage())
    yield DONE


async def _chunks(plan: AnswerPlan, streams: Sequence[Stream]) -> AsyncGenerator[tuple[int, AnswerChunk], None]:
    readers = [plan.reader() for _ in streams]
    async for index, chunk in merged(streams):
        reader = readers[index]
        was_stopped = reader.is_stopped
        read = reader.push(chunk)
        if reader.is_stopped and not was_stopped:
            streams[index].cancel()
        yield index, read


class _ChoiceWriter:
    """Pieces of one streamed choice."""

    def __init__(self, plan: AnswerPlan, index: int) -> None:
        self._plan = plan
        self._index = index
        self._deltas = DeltaWriter()
        self._is_empty = True

    def pieces(self, chunk: AnswerChunk) -> Iterator[Json]:
        """What a chunk brought. Log-probabilities come with the first text, or with an empty one."""
        logprobs = None
        if self._plan.logprobs is not None and chunk.logprobs:
            logprobs = self._plan.logprobs.chat(chunk.logprobs)
        for piece in chunk.pieces:
            is_text = piece.kind is PieceKind.TEXT
            yield chat_piece(self._index, self._deltas.delta(piece), logprobs if is_text else None)
            self._is_empty &= piece.kind is PieceKind.REASONING
            logprobs = None if is_text else logprobs
        if logprobs is not None or (chunk.end is not None and self._is_empty):
            yield chat_piece(self._index, {"content": ""}, logprobs)
        if chunk.end is not None:
            yield chat_end(self._index, self._plan.finish_reason(chunk.end.finish_reason))
