from __future__ import annotations

import json

import pytest

from lepton_ai.loadgen.events import EventSplitter, as_error, read_error, read_piece
from lepton_ai.loadgen.failures import MalformedAnswer

STREAM = b': ping\n\ndata: {"a": 1}\n\ndata:two\r\ndata:  lines\r\n\r\nevent: x\nid: 3\n\n\ndata: [DONE]\n\n'
EVENTS = [b'{"a": 1}', b"two\n lines", b"[DONE]"]


@pytest.mark.parametrize("cut", range(len(STREAM) + 1))
def test_events_cut_anywhere(cut: int) -> None:
    splitter = EventSplitter()
    assert splitter.feed(STREAM[:cut]) + splitter.feed(STREAM[cut:]) == EVENTS


def test_an_event_ends_with_its_blank_line() -> None:
    splitter = EventSplitter()
    assert splitter.feed(b"data: x\n") == [] and splitter.feed(b"\n") == [b"x"]


def test_a_line_without_end() -> None:
    splitter = EventSplitter()
    with pytest.raises(MalformedAnswer, match="at most"):
        for _ in range(10):
            splitter.feed(b"x" * (1 << 20))


@pytest.mark.parametrize(
    ("choice", "has_text", "finishes"),
    [
        ({"delta": {"role": "assistant", "content": ""}, "finish_reason": None}, False, False),
        ({"delta": {"content": "a"}, "logprobs": None}, True, False),
        ({"delta": {"reasoning_content": "hm"}}, True, False),
        ({"delta": {"tool_calls": [{"index": 0, "function": {"name": "f"}}]}}, True, False),
        ({"delta": {}, "finish_reason": "stop"}, False, True),
        ({"text": "a", "finish_reason": "length"}, True, True),
        ({"text": ""}, False, False),
    ],
)
def test_pieces(choice: object, has_text: bool, finishes: bool) -> None:
    piece = read_piece(json.dumps({"id": "x", "choices": [choice], "usage": None}).encode())
    assert (piece.has_text, piece.finishes, piece.usage) == (has_text, finishes, None)


def test_usage() -> None:
    usage = read_piece(
        b'{"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}}'
    ).usage
    assert usage is not None and (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens) == (3, 4, 0)
    usage = read_piece(b'{"usage": {"prompt_tokens": 3, "prompt_tokens_details": {"cached_tokens": 2}}}').usage
    assert usage is not None and usage.cached_tokens == 2


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"choices": 1}', b'{"choices": [{"text": 1}]}', b'{"x": "\xff"}'])
def test_what_is_no_piece(data: bytes) -> None:
    if data == b'{"x": "\xff"}':
        assert not read_piece(data).has_text  # what is not looked at is not checked
        return
    with pytest.raises(MalformedAnswer, match="a stream: expected the JSON"):
        read_piece(data)


def test_errors() -> None:
    error = read_error(b'{"error": {"message": "m", "type": "t", "code": 429}}')
    assert (error.message, error.type, error.code) == ("m", "t", 429)
    assert read_error(b'{"error": "plain"}').message == "plain"
    for body in (b"", b"<html>", b"{}", b'{"error": 5}', b"[1]"):
        assert (read_error(body).message, read_error(body).code) == (None, None)
    assert as_error(None).message is None
