"""Tools, as the official client sees them. A constraint makes even a model of random weights call one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from tests.engine.tiny_gguf import tiny_gguf
from tests.serve.running import Running, running
from tests.text.templates import LLAMA3, QWEN2

MESSAGES: list[Any] = [{"role": "user", "content": "hello"}]
LEVEL = {
    "type": "object",
    "properties": {"level": {"enum": [1, 2, 3]}, "on": {"type": "boolean"}},
    "required": ["level", "on"],
    "additionalProperties": False,
}
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": "fan", "description": "A fan.", "parameters": LEVEL, "strict": True}},
    {"type": "function", "function": {"name": "lamp-1", "parameters": LEVEL}},
    {"type": "function", "function": {"name": "nothing"}},
]
ASKED: dict[str, Any] = {"model": "qwen", "messages": MESSAGES, "tools": TOOLS, "seed": 1, "max_tokens": 400}
NAMED = {"type": "function", "function": {"name": "lamp-1"}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("models")
    models: dict[str, Path] = {
        "qwen": tiny_gguf(folder / "qwen.gguf", template=QWEN2, context_length=4096),
        "llama": tiny_gguf(folder / "llama.gguf", template=LLAMA3, context_length=4096),
        "plain": tiny_gguf(folder / "plain.gguf"),
        "other": tiny_gguf(folder / "other.gguf", template="{% if tools %}{{ tools }}{% endif %}x"),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEPTON_HOME", str(tmp_path_factory.mktemp("home")))
        with running(models) as made:
            yield made


@pytest.fixture
def client(server: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def _create(client: openai.OpenAI, **asked: Any) -> Any:
    return client.chat.completions.create(**asked)


def _calls(message: Any) -> list[tuple[str, str]]:
    return [(call.function.name, call.function.arguments) for call in message.tool_calls or []]


def _is_valid(name: str, arguments: str) -> bool:
    value = json.loads(arguments)
    if name == "nothing":
        return bool(value == {})
    return set(value) == {"level", "on"} and value["level"] in (1, 2, 3) and isinstance(value["on"], bool)


@pytest.mark.parametrize("model", ["qwen", "llama"])
def test_a_call_that_is_required(client: openai.OpenAI, model: str) -> None:
    answer = _create(client, **ASKED | {"model": model}, tool_choice="required", parallel_tool_calls=False)
    (choice,) = answer.choices
    assert choice.finish_reason == "tool_calls" and choice.message.content is None
    assert choice.message.tool_calls is not None
    (call,) = choice.message.tool_calls
    assert call.type == "function" and call.id.startswith("call_") and len(call.id) == 29
    assert _is_valid(call.function.name, call.function.arguments)
    assert answer.usage is not None and answer.usage.completion_tokens_details is None


def test_a_call_by_name(client: openai.OpenAI) -> None:
    (choice,) = _create(client, **ASKED, tool_choice=NAMED).choices
    assert choice.message.tool_calls is not None
    (call,) = choice.message.tool_calls
    assert call.type == "function" and call.function.name == "lamp-1"
    assert choice.finish_reason == "stop"  # as the original says where the request names the tool


def test_a_call_of_some_of_the_tools(client: openai.OpenAI) -> None:
    tools = [{"type": "function", "function": {"name": name}} for name in ("nothing", "lamp-1")]
    choice: Any = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": tools}}
    answer = _create(client, **ASKED | {"n": 6, "temperature": 2}, tool_choice=choice)
    for each in answer.choices:
        assert {c.function.name for c in each.message.tool_calls or [] if c.type == "function"} <= {"nothing", "lamp-1"}


@pytest.mark.parametrize("more", [{"tool_choice": "required"}, {"tool_choice": NAMED}, {"n": 3, "temperature": 1.5}])
def test_a_stream_adds_up_to_the_whole(client: openai.OpenAI, more: dict[str, Any]) -> None:
    asked = ASKED | {"tool_choice": "required", "max_tokens": 200} | more
    whole = _create(client, **asked)
    with client.chat.completions.stream(**asked) as stream:
        events = list(stream)
        total = stream.get_final_completion()
    assert len(total.choices) == len(whole.choices)
    for made, want in zip(total.choices, whole.choices, strict=True):
        assert made.finish_reason == want.finish_reason and made.message.content == want.message.content
        calls = [(c.function.name, c.function.arguments) for c in made.message.tool_calls or []]
        assert calls and calls == _calls(want.message)
    assert {event.type for event in events} >= {
        "tool_calls.function.arguments.delta",
        "tool_calls.function.arguments.done",
    }


def test_the_deltas_of_a_call(client: openai.OpenAI) -> None:
    asked = ASKED | {"stream_options": {"include_usage": True}}
    chunks = list(_create(client, **asked, tool_choice=NAMED, stream=True))
    assert all("usage" in chunk.model_fields_set for chunk in chunks)
    assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].choices == [] and chunks[-1].usage is not None
    start, call, *rest, end = [chunk.choices[0] for chunk in chunks[:-1]]
    assert start.delta.role == "assistant" and start.delta.content is None and start.delta.tool_calls is None
    assert call.delta.tool_calls is not None
    first = call.delta.tool_calls[0]
    assert first.index == 0 and first.id is not None and first.type == "function" and first.function is not None
    assert first.function.name == "lamp-1" and first.function.arguments == ""
    fragments = []
    for each in rest:
        assert each.delta.content is None and each.delta.role is None and each.delta.tool_calls is not None
        (delta,) = each.delta.tool_calls
        assert delta.index == 0 and delta.id is None and delta.type is None and delta.function is not None
        assert delta.function.name is None and delta.function.arguments
        fragments.append(delta.function.arguments)
    assert len(fragments) > 5 and _is_valid("lamp-1", "".join(fragments))
    assert end.finish_reason == "stop" and end.delta.tool_calls is None


def test_a_call_that_is_cut(client: openai.OpenAI) -> None:
    long: Any = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    long["function"]["parameters"] = {
        "type": "object",
        "properties": {"text": {"type": "string", "minLength": 50}},
        "required": ["text"],
    }
    asked = ASKED | {"tools": [long], "max_tokens": 60, "tool_choice": "required"}
    (choice,) = _create(client, **asked).choices
    assert choice.finish_reason == "length" and choice.message.tool_calls is not None
    (call,) = choice.message.tool_calls
    assert call.type == "function" and call.function.arguments.lstrip().startswith("{")
    streamed = ""
    for chunk in _create(client, **asked, stream=True):
        for delta in chunk.choices[0].delta.tool_calls or []:
            streamed += (delta.function and delta.function.arguments) or ""
        reason = chunk.choices[0].finish_reason
    assert streamed == call.function.arguments and reason == "length"


@pytest.mark.parametrize("choice", ["auto", "none"])
def test_text_with_tools(client: openai.OpenAI, choice: Any) -> None:
    asked = ASKED | {"max_tokens": 20, "temperature": 0}
    (whole,) = _create(client, **asked, tool_choice=choice, logprobs=True).choices
    assert whole.finish_reason == "length" and whole.message.content and whole.message.tool_calls is None
    assert whole.logprobs is not None and len(whole.logprobs.content or []) == 20
    streamed = list(_create(client, **asked, tool_choice=choice, logprobs=True, stream=True))
    assert "".join(c.choices[0].delta.content or "" for c in streamed) == whole.message.content
    entries = [e for c in streamed if c.choices[0].logprobs for e in c.choices[0].logprobs.content or []]
    assert [e.logprob for e in entries] == [e.logprob for e in whole.logprobs.content or []]


def test_stop_strings_do_not_cut_calls(client: openai.OpenAI) -> None:
    (choice,) = _create(client, **ASKED, tool_choice=NAMED, stop=["\n", "{", "level"]).choices
    assert choice.message.tool_calls is not None and choice.message.tool_calls[0].type == "function"
    assert _is_valid("lamp-1", choice.message.tool_calls[0].function.arguments)
    asked = ASKED | {"max_tokens": 30, "temperature": 0}
    text = _create(client, **asked).choices[0].message.content or ""
    stop = text[10:12]
    answer = _create(client, **asked, stop=stop)
    assert answer.choices[0].message.content == text[: text.find(stop)] and answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None and answer.usage.completion_tokens < 30


def test_log_probabilities_are_of_content(client: openai.OpenAI) -> None:
    (choice,) = _create(client, **ASKED, tool_choice=NAMED, logprobs=True).choices
    assert choice.logprobs is not None and choice.logprobs.content == []


def test_json_of_a_schema_beside_tools(client: openai.OpenAI) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": LEVEL, "strict": True}}
    answer = _create(client, **ASKED | {"n": 8, "temperature": 2, "response_format": form})
    for choice in answer.choices:
        calls = [call for call in choice.message.tool_calls or [] if call.type == "function"]
        assert bool(calls) is (choice.message.content is None)
        assert choice.finish_reason == ("tool_calls" if calls else "stop")
        assert (
            _is_valid("fan", choice.message.content)
            if choice.message.content
            else all(_is_valid(call.function.name, call.function.arguments) for call in calls)
        )


def test_a_round_trip(client: openai.OpenAI, server: Running) -> None:
    (choice,) = _create(client, **ASKED, tool_choice="required").choices
    calls = choice.message.tool_calls or []
    results = [
        {"role": "tool", "tool_call_id": c.id, "content": [{"type": "text", "text": "<|im_end|>"}]} for c in calls
    ]
    messages: Any = [*MESSAGES, choice.message, *results, {"role": "user", "content": "and?"}]
    assert _create(client, **ASKED | {"messages": messages, "max_tokens": 3}).choices
    with client.chat.completions.stream(**ASKED, tool_choice="required") as stream:
        streamed = stream.get_final_completion().choices[0].message
    results = [{"role": "tool", "tool_call_id": c.id, "content": "x"} for c in streamed.tool_calls or []]
    messages = [*MESSAGES, streamed, *results]
    assert _create(client, **ASKED | {"messages": messages, "max_tokens": 3}).choices


CALLED: dict[str, Any] = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "1", "type": "function", "function": {"name": "fan", "arguments": "{}"}}],
}
RESULT = {"role": "tool", "tool_call_id": "1", "content": "x"}


def _arguments(text: str) -> dict[str, Any]:
    call = CALLED["tool_calls"][0] | {"function": {"name": "fan", "arguments": text}}
    return CALLED | {"tool_calls": [call]}


def _tool(**function: Any) -> list[Any]:
    return [{"type": "function", "function": {"name": "f"} | function}]


@pytest.mark.parametrize(
    ("more", "param", "message"),
    [
        ({"model": "plain"}, "tools", "tools: expected a model with tools, got one without tools"),
        ({"model": "other"}, "tools", "whose form of calls is not known"),
        ({"tools": []}, "tools", "expected 1 to 128, got 0"),
        ({"tools": _tool() * 129}, "tools", "expected 1 to 128, got 129"),
        ({"tools": _tool() * 2}, "tools", "expected each name once"),
        ({"tools": _tool(name="a b")}, "tools.0.function.name", "pattern"),
        ({"tools": _tool(name="a" * 65)}, "tools.0.function.name", "pattern"),
        ({"tools": _tool(parameters={"type": "string"})}, "tools[0].function.parameters", "got type 'string'"),
        ({"tools": _tool(parameters={"x": 1})}, "tools[0].function.parameters", "got type None"),
        ({"tools": _tool(strict=True, parameters={"type": "object", "not": {}})}, "tools", "tools: expected one that"),
        (
            {"tools": [{"type": "custom", "custom": {"name": "x"}}]},
            "tools.0.custom",
            "not supported, as tools are functions",
        ),
        ({"tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice", "fan, lamp-1, nothing"),
        ({"tools": None, "tool_choice": "auto"}, "tool_choice", "expected none without tools"),
        ({"tools": None, "parallel_tool_calls": True}, "parallel_tool_calls", "expected none without tools"),
        ({"min_tokens": 3}, "min_tokens", "expected 0 beside a constraint"),
        ({"messages": [*MESSAGES, RESULT]}, "messages[1].tool_call_id", "expected the id of a call"),
        (
            {"messages": [*MESSAGES, CALLED]},
            "messages",
            "messages[1]: expected messages of the role tool that answer 1",
        ),
        ({"messages": [*MESSAGES, CALLED, *MESSAGES]}, "messages", "messages[2]: expected messages of the role tool"),
        ({"messages": [*MESSAGES, CALLED, RESULT, *MESSAGES, RESULT]}, "messages[4].tool_call_id", "the id of a call"),
        ({"messages": [*MESSAGES, CALLED, RESULT | {"tool_call_id": "2"}]}, "messages[2].tool_call_id", "got '2'"),
        ({"messages": [*MESSAGES, _arguments("{"), RESULT]}, "messages[1].tool_calls[0].function.arguments", "a JSON"),
        ({"messages": [*MESSAGES, _arguments("1"), RESULT]}, "messages[1].tool_calls[0].function.arguments", "a JSON"),
        ({"messages": [*MESSAGES, CALLED | {"tool_calls": []}]}, "messages[1].tool_calls", "expected calls"),
        (
            {"messages": [MESSAGES[0] | {"tool_calls": CALLED["tool_calls"]}]},
            "messages[0].tool_calls",
            "expected calls",
        ),
        (
            {"model": "plain", "tools": None, "messages": [*MESSAGES, CALLED, RESULT]},
            "messages",
            "as the model has none",
        ),
        ({"model": "llama", "response_format": {"type": "json_object"}}, "response_format", "expected text beside"),
    ],
)
def test_what_is_refused_says_which_field(server: Running, more: dict[str, Any], param: str, message: str) -> None:
    asked = {key: value for key, value in (ASKED | {"max_tokens": 3} | more).items() if value is not None}
    answer = httpx.post(f"{server.url}/v1/chat/completions", json=asked)
    error = answer.json()["error"]
    assert answer.status_code == 400 and message in error["message"] and error["param"] == param


@pytest.mark.parametrize(
    "more",
    [
        {"store": False, "modalities": ["text"], "prompt_cache_key": "x", "safety_identifier": "y", "user": "z"},
        {"messages": [{"role": "developer", "content": "x", "name": "me"}, *MESSAGES]},
        {"messages": [*MESSAGES, {"role": "assistant", "content": "x", "refusal": None}, *MESSAGES]},
        {"stream_options": {"include_obfuscation": False}, "stream": True},
    ],
)
def test_what_else_the_original_takes(client: openai.OpenAI, more: dict[str, Any]) -> None:
    _create(client, **{"model": "qwen", "messages": MESSAGES, "max_tokens": 1} | more)


def test_the_tier_is_said_if_it_is_asked_for(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "qwen", "messages": MESSAGES, "max_tokens": 1}
    assert _create(client, **asked, service_tier="auto").service_tier == "default"
    assert _create(client, **asked).service_tier is None
    with pytest.raises(openai.BadRequestError, match="service_tier"):
        _create(client, **asked, service_tier="priority")
