"""What is read out of a stream, with times that the test says."""

from __future__ import annotations

import json

import pytest

from lepton_ai.loadgen.answer import AnswerReader, Outcome
from lepton_ai.loadgen.failures import MalformedAnswer, Refused, RequestFailed

STREAM = {"content-type": "text/event-stream; charset=utf-8"}


def event(value: object) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def text(text: str, finish_reason: str | None = None) -> bytes:
    return event({"choices": [{"text": text, "finish_reason": finish_reason}]})


def usage(prompt: int, output: int) -> bytes:
    return event({"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": output}})


DONE = b"data: [DONE]\n\n"


def read(*parts: tuple[float, bytes]) -> Outcome:
    outcome = Outcome(8, intended_s=10.0, sent_s=10.5)
    reader = AnswerReader(outcome)
    reader.begin(200, STREAM)
    for now, body in parts:
        reader.receive(body, now)
    reader.finish()
    outcome.end_s = parts[-1][0]
    return outcome


def test_times_count_from_when_it_was_to_be_sent() -> None:
    outcome = read(
        (11.0, text("")),  # who speaks: no text yet
        (12.0, text("a")),
        (12.5, text("b") + text("c")),  # two pieces in one read
        (14.5, text("d") + text("", "length")),
        (15.0, usage(7, 5) + DONE),
    )
    assert outcome.first_token_s == 2.0 and outcome.latency_s == 5.0
    assert list(outcome.gaps_s) == [0.5, 0.0, 2.0] and outcome.num_pieces == 4
    assert outcome.time_per_output_token_s == (14.5 - 12.0) / 4
    assert (outcome.prompt_tokens, outcome.output_tokens, outcome.failure) == (7, 5, None)


def test_tokens_are_those_of_the_usage_and_not_the_events() -> None:
    outcome = read((11.0, text("two words")), (13.0, text("", "length") + usage(1, 9) + DONE))
    assert outcome.output_tokens == 9 and outcome.num_pieces == 1
    assert outcome.time_per_output_token_s == 2.0 / 8 and list(outcome.gaps_s) == []


def test_an_end_without_its_reason_is_the_last_text() -> None:
    outcome = read((11.0, text("a")), (12.0, text("b")), (15.0, usage(1, 2) + DONE))
    assert outcome.finish_s == 12.0 and outcome.time_per_output_token_s == 1.0


def test_an_answer_without_text() -> None:
    outcome = read((11.0, text("", "stop") + usage(1, 1) + DONE))
    assert outcome.first_token_s is None and outcome.time_per_output_token_s is None and outcome.num_pieces == 0


def test_a_single_token_has_no_time_per_token() -> None:
    assert read((11.0, text("a", "length") + usage(1, 1) + DONE)).time_per_output_token_s is None


def test_the_last_usage_counts() -> None:
    assert read((11.0, usage(1, 1) + text("a") + usage(1, 2) + DONE)).output_tokens == 2


@pytest.mark.parametrize(
    ("body", "kind"), [(text("a"), "no [DONE]"), (text("a") + DONE, "no usage"), (b"", "no [DONE]")]
)
def test_streams_that_are_not_whole(body: bytes, kind: str) -> None:
    with pytest.raises(RequestFailed) as raised:
        read((11.0, body))
    assert raised.value.kind == kind


def test_an_error_in_the_stream() -> None:
    error = {"error": {"message": "it broke", "type": "server_error", "code": "engine_died"}}
    with pytest.raises(Refused, match="it broke") as raised:
        read((11.0, text("a")), (12.0, event(error)))
    assert raised.value.kind == "in a stream engine_died"


def test_a_status_of_failure() -> None:
    reader = AnswerReader(Outcome(8, intended_s=0.0))
    reader.begin(503, {"content-type": "application/json"})
    reader.receive(b'{"error": {"message": "full", ', 1.0)
    reader.receive(b'"type": "overloaded_error"}}', 2.0)
    with pytest.raises(Refused, match="full") as raised:
        reader.finish()
    assert (raised.value.http_status, raised.value.kind) == (503, "HTTP 503 overloaded_error")
    reader = AnswerReader(Outcome(8, intended_s=0.0))
    reader.begin(502, {})
    reader.receive(b"<html>", 1.0)
    with pytest.raises(Refused, match="without a code: no message") as raised:
        reader.finish()
    assert raised.value.kind == "HTTP 502"


def test_an_answer_that_is_no_stream() -> None:
    with pytest.raises(MalformedAnswer, match="expected text/event-stream, got 'application/json'"):
        AnswerReader(Outcome(8, intended_s=0.0)).begin(200, {"content-type": "application/json"})
