"""Answers that reason, call tools and stop, from given chunks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import pytest
from tests.text.templates import QWEN3

from lepton_ai.engine.outputs import Chunk, Usage
from lepton_ai.engine.stream import Stream
from lepton_ai.serve.chat_answers import AnswerPlan, answer_events, whole_answer
from lepton_ai.serve.protocol.answers import Head
from lepton_ai.text.answer_format import AnswerFormat, Opening
from lepton_ai.text.chat_template import ChatTemplate

ANSWERS = ChatTemplate(QWEN3).answer_format
CALL = ["<tool_call>", '\n{"name": "f", "arg', 'uments": {"a"', ": 1}", "}\n</tool", "_call>"]
THOUGHT = ["<think>", "\nso ", "it is", "\n</th", "ink>\n\n"]


class FakeStream:
    """Gives ``texts``, one token each; after ``cancel`` the last chunk alone."""

    def __init__(self, texts: Sequence[str], reason: str) -> None:
        self._texts = [*texts]
        self._reason = reason
        self.was_cancelled = False

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        while self._texts and not self.was_cancelled:
            yield Chunk(self._texts.pop(0), (7,))
        reason = "cancelled" if self._texts else self._reason
        yield Chunk("", (), finish_reason=reason, usage=Usage(3, 99, 1))

    def cancel(self) -> None:
        self.was_cancelled = bool(self._texts)


def _plan(answers: AnswerFormat = ANSWERS, *, stops: Sequence[str] = (), is_named: bool = False) -> AnswerPlan:
    opening = Opening.BEFORE_REASONING
    return AnswerPlan(
        answers=answers,
        opening=opening,
        stops=stops,
        min_tokens=0,
        has_named_choice=is_named,
        logprobs=None,
        names=("f",),
    )


def _whole(plan: AnswerPlan, texts: Sequence[str], reason: str = "stop") -> Any:
    streams = cast("list[Stream]", [FakeStream(texts, reason)])
    return asyncio.run(whole_answer(plan, streams, Head("1", "chat.completion", 0, "m")))


def _streamed(plan: AnswerPlan, texts: Sequence[str], reason: str = "stop") -> list[Any]:
    async def read() -> list[bytes]:
        streams = cast("list[Stream]", [FakeStream(texts, reason)])
        return [e async for e in answer_events(plan, streams, Head("1", "chunk", 0, "m", has_usage=True))]

    events = asyncio.run(read())
    assert events[-1] == b"data: [DONE]\n\n"
    return [json.loads(event.removeprefix(b"data: ")) for event in events[:-1]]


def _message(answer: Any) -> Any:
    (choice,) = answer["choices"]
    for call in choice["message"].get("tool_calls", []):
        assert call.pop("id").startswith("call_")
    return choice["message"] | {"finish_reason": choice["finish_reason"]}


def _called(arguments: str = '{"a": 1}') -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", "arguments": arguments}}


@pytest.mark.parametrize(
    ("texts", "want"),
    [
        ([*THOUGHT, "Yes."], {"content": "Yes.", "reasoning_content": "so it is"}),
        (["Yes."], {"content": "Yes."}),
        ([], {"content": ""}),
        (THOUGHT, {"content": "", "reasoning_content": "so it is"}),
        ([*THOUGHT, *CALL], {"content": None, "reasoning_content": "so it is", "tool_calls": [_called()]}),
        (["Let me see.", "\n", *CALL], {"content": "Let me see.", "tool_calls": [_called()]}),
        ([*CALL, "\n", *CALL], {"content": None, "tool_calls": [_called(), _called()]}),
    ],
)
def test_the_message_and_what_its_deltas_add_up_to(texts: list[str], want: dict[str, Any]) -> None:
    want = {"role": "assistant", "refusal": None} | want
    reason = "tool_calls" if "tool_calls" in want else "stop"
    answer = _whole(_plan(), texts)
    assert _message(answer) == want | {"finish_reason": reason}
    chunks = _streamed(_plan(), texts)
    *pieces, last = chunks
    assert last["choices"] == [] and last["usage"] == answer["usage"]
    assert all(piece["usage"] is None for piece in pieces)
    made: dict[str, Any] = {}
    for piece in pieces:
        (choice,) = piece["choices"]
        for key, value in choice["delta"].items():
            if key == "tool_calls":
                for delta in value:
                    calls = made.setdefault("tool_calls", [])
                    if delta["index"] == len(calls):
                        assert delta.pop("id").startswith("call_") and delta["function"]["arguments"] == ""
                        calls.append({"type": delta["type"], "function": delta["function"]})
                    else:
                        assert set(delta) == {"index", "function"} and delta["index"] == len(calls) - 1
                        calls[-1]["function"]["arguments"] += delta["function"].pop("arguments")
                        assert delta["function"] == {}
            else:
                made[key] = value if made.get(key) is None else made[key] + value
    assert made == want
    assert pieces[-1]["choices"][0] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": reason}


def test_reasoning_counts_among_the_tokens() -> None:
    usage = _whole(_plan(), [*THOUGHT, "Yes."])["usage"]
    assert usage["completion_tokens"] == 6 and usage["completion_tokens_details"] == {"reasoning_tokens": 4}
    assert usage["prompt_tokens"] == 3 and usage["total_tokens"] == 9
    assert "completion_tokens_details" not in _whole(_plan(AnswerFormat(tools=ANSWERS.tools)), ["Yes."])["usage"]


def test_an_answer_ends_with_its_stop_string() -> None:
    texts = [*THOUGHT, "a", " s", "o it", " goes", " on"]
    for answer in (_whole(_plan(stops=["so"]), texts), _whole(_plan(stops=["so"]), texts[:8], "stop")):
        assert _message(answer)["content"] == "a " and _message(answer)["finish_reason"] == "stop"
        assert answer["usage"]["completion_tokens"] == 8
    *_, end, usage = _streamed(_plan(stops=["so"]), texts)
    assert end["choices"][0]["finish_reason"] == "stop" and usage["usage"]["completion_tokens"] == 8


def test_a_named_tool_ends_with_stop() -> None:
    assert _message(_whole(_plan(is_named=True), CALL))["finish_reason"] == "stop"
    assert _message(_whole(_plan(is_named=True), CALL[:-2], "length"))["finish_reason"] == "length"


def test_arguments_that_are_cut_are_there() -> None:
    message = _message(_whole(_plan(), CALL[:3], "length"))
    assert message["tool_calls"] == [_called('{"a"')] and message["finish_reason"] == "length"
