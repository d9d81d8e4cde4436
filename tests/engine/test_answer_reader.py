from __future__ import annotations

from collections.abc import Sequence

from tests.text.templates import QWEN3

from lepton_ai.engine.answer_reader import AnswerChunk, AnswerReader
from lepton_ai.engine.outputs import Chunk, TokenLogprob, Usage
from lepton_ai.text.answer_format import Opening
from lepton_ai.text.answer_parser import AnswerParser, Piece, PieceKind
from lepton_ai.text.chat_template import ChatTemplate

ANSWERS = ChatTemplate(QWEN3).answer_format
REASONING, TEXT, CALLED, ARGS = PieceKind.REASONING, PieceKind.TEXT, PieceKind.CALL, PieceKind.ARGUMENTS
CALL = '<tool_call>\n{"name": "f", "arguments": {"a": "stop"}}\n</tool_call>'


def _chunks(texts: Sequence[str], reason: str) -> list[Chunk]:
    """One token each, with its number as its log-probability."""
    last = len(texts) - 1
    return [
        Chunk(
            text,
            (i,),
            (TokenLogprob(i, -float(i)),),
            reason if i == last else None,
            Usage(5, last + 1, 2) if i == last else None,
        )
        for i, text in enumerate(texts)
    ]


def _read(reader: AnswerReader, texts: Sequence[str], reason: str = "stop") -> list[AnswerChunk]:
    return [reader.push(chunk) for chunk in _chunks(texts, reason)]


def _reader(*stops: str, min_tokens: int = 0, opening: Opening = Opening.BEFORE_REASONING) -> AnswerReader:
    return AnswerReader(AnswerParser(ANSWERS.tools, ANSWERS.reasoning, opening), stops, min_tokens=min_tokens)


def _pieces(chunks: Sequence[AnswerChunk]) -> list[Piece]:
    return [piece for chunk in chunks for piece in chunk.pieces]


def test_calls_are_the_reason_of_the_end() -> None:
    read = _read(_reader(), ["<think>", "so", "</think>", "\n", CALL, ""])
    assert _pieces(read) == [Piece(REASONING, "so"), Piece(CALLED, "f"), Piece(ARGS, '{"a": "stop"}')]
    end = read[-1].end
    assert end is not None and end.finish_reason == "tool_calls"
    assert end.usage == Usage(5, 6, 2) and end.reasoning_tokens == 2
    assert [chunk.end for chunk in read[:-1]] == [None] * 5


def test_an_answer_that_is_cut_says_so() -> None:
    end = _read(_reader(), [CALL[:45]], "length")[-1].end
    assert end is not None and end.finish_reason == "length"


def test_stop_strings_are_looked_for_in_text_alone() -> None:
    reader = _reader("stop")
    read = _read(reader, ["<think>", "stop", "</think>", CALL, ""])
    assert _pieces(read) == [Piece(REASONING, "stop"), Piece(CALLED, "f"), Piece(ARGS, '{"a": "stop"}')]
    assert not reader.is_stopped


def test_nothing_comes_after_a_stop_string() -> None:
    reader = _reader("stop")
    read = [reader.push(chunk) for chunk in _chunks(["a", " st", "op", CALL, " b", ""], "cancelled")]
    assert _pieces(read) == [Piece(TEXT, "a"), Piece(TEXT, " ")]
    assert reader.is_stopped and read[-1].end is not None
    assert read[-1].end.finish_reason == "stop" and read[-1].end.usage.completion_tokens == 3


def test_what_became_no_stop_string_comes_before_a_call() -> None:
    read = _read(_reader("stop"), ["a st", "\n", CALL, ""])
    assert _pieces(read)[:3] == [Piece(TEXT, "a "), Piece(TEXT, "st"), Piece(CALLED, "f")]
    assert _pieces(_read(_reader("stop"), ["a st"])) == [Piece(TEXT, "a "), Piece(TEXT, "st")]


def test_stop_strings_wait_for_min_tokens() -> None:
    read = _read(_reader("x", min_tokens=2), ["x", "x", "y", "x", "z"], "cancelled")
    assert "".join(piece.text for piece in _pieces(read)) == "xxy"


def test_log_probabilities_are_of_text() -> None:
    read = _read(_reader(), ["<think>", "so", "</think>", "a", " <", "b", "\n", CALL, ""])
    assert [[entry.token_id for entry in chunk.logprobs] for chunk in read] == [
        *([], [], []),
        *([3], [], [4, 5], []),
        *([], []),
    ]


def test_log_probabilities_of_what_is_held_back_come_in_the_end() -> None:
    read = _read(_reader(opening=Opening.AFTER_REASONING), ["a", " <tool", ""])
    assert [[entry.token_id for entry in chunk.logprobs] for chunk in read] == [[0], [], [1, 2]]
