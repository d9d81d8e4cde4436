"""Tools with a model that knows them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from tests.serve.running import running

from lepton_ai.config import Environment
from lepton_ai.errors import DownloadFailed
from lepton_ai.weights.sources.progress import NoProgress
from lepton_ai.weights.sources.resolve import resolve

pytestmark = pytest.mark.large

MESSAGES: list[Any] = [{"role": "user", "content": "What is the weather in Paris?"}]
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {"name": name, "description": about, "parameters": CITY, "strict": True},
    }
    for name, about in (("get_weather", "The weather in a city now."), ("get_time", "The time in a city now."))
]
ASKED: dict[str, Any] = {"model": "qwen", "messages": MESSAGES, "tools": TOOLS, "temperature": 0, "max_tokens": 80}


@pytest.fixture(scope="module")
def client() -> Iterator[openai.OpenAI]:
    try:
        path = resolve("qwen2.5-coder-0.5b", Environment.read(), NoProgress())
    except DownloadFailed as error:
        pytest.skip(f"the model cannot be fetched: {error.message}")
    with running({"qwen": path}) as server, openai.OpenAI(base_url=f"{server.url}/v1", api_key="x") as made:
        yield made


def _calls(message: Any) -> list[tuple[str, Any]]:
    return [(call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls or []]


def _ask(client: openai.OpenAI, **more: Any) -> Any:
    return client.chat.completions.create(**ASKED | more)


@pytest.mark.parametrize(
    ("choice", "name", "reason"),
    [
        ("auto", "get_weather", "tool_calls"),
        ("required", "get_weather", "tool_calls"),
        ({"type": "function", "function": {"name": "get_time"}}, "get_time", "stop"),
    ],
)
def test_a_call(client: openai.OpenAI, choice: Any, name: str, reason: str) -> None:
    (whole,) = _ask(client, tool_choice=choice).choices
    assert whole.finish_reason == reason and whole.message.content is None
    assert _calls(whole.message) == [(name, {"city": "Paris"})]
    with client.chat.completions.stream(**ASKED, tool_choice=choice) as stream:
        final = stream.get_final_completion().choices[0]
    assert final.finish_reason == reason and _calls(final.message) == [(name, {"city": "Paris"})]


def test_no_call(client: openai.OpenAI) -> None:
    (choice,) = _ask(client, tool_choice="none").choices
    assert choice.message.content and choice.message.tool_calls is None and "<tool_call>" not in choice.message.content


def test_a_round_trip(client: openai.OpenAI) -> None:
    called = _ask(client, tool_choice="required").choices[0].message
    (call,) = called.tool_calls
    result = {"role": "tool", "tool_call_id": call.id, "content": '{"temperature_celsius": 23, "sky": "sunny"}'}
    (choice,) = _ask(client, messages=[*MESSAGES, called, result], tool_choice="none").choices
    assert "23" in choice.message.content and choice.message.tool_calls is None
