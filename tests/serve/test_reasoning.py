"""Models that reason, and variables of chat templates, as the official client sees them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from tests.engine.tiny_gguf import TEMPLATE, tiny_gguf
from tests.serve.running import running
from tests.text.templates import QWEN3, R1

MESSAGES: list[Any] = [{"role": "user", "content": "hello"}]
EFFORT = "{% if reasoning_effort %}{{ reasoning_effort }}{% endif %}" + TEMPLATE


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    folder = tmp_path_factory.mktemp("models")
    templates = {"r1": R1, "qwen3": QWEN3, "effort": EFFORT}
    models = {name: tiny_gguf(folder / f"{name}.gguf", template=text) for name, text in templates.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEPTON_HOME", str(tmp_path_factory.mktemp("home")))
        with running(models) as server, openai.OpenAI(base_url=f"{server.url}/v1", api_key="x", max_retries=0) as made:
            yield made


def _ask(client: openai.OpenAI, model: str, **more: Any) -> Any:
    asked: dict[str, Any] = {"model": model, "messages": MESSAGES, "temperature": 0, "max_completion_tokens": 12}
    return client.chat.completions.create(**asked | {"extra_body": {"ignore_eos": True}} | more)


def test_a_prompt_that_opens_the_reasoning(client: openai.OpenAI) -> None:
    answer = _ask(client, "r1")
    message = answer.choices[0].message
    assert message.content == "" and message.reasoning_content and answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens_details.reasoning_tokens == answer.usage.completion_tokens == 12
    deltas = [chunk.choices[0].delta for chunk in _ask(client, "r1", stream=True)]
    assert "".join(getattr(d, "reasoning_content", "") for d in deltas) == message.reasoning_content
    assert "".join(d.content or "" for d in deltas) == ""


def test_reasoning_that_a_variable_turns_off(client: openai.OpenAI) -> None:
    off = {"chat_template_kwargs": {"enable_thinking": False}}
    on = {"chat_template_kwargs": {"enable_thinking": True}}
    prompts = [_ask(client, "qwen3", extra_body=body).usage.prompt_tokens for body in ({}, on, off)]
    assert prompts[0] == prompts[1] == prompts[2] - len("<think>\n\n</think>\n\n")


def test_json_begins_after_the_reasoning(client: openai.OpenAI) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": [12345]}}}
    off = {"chat_template_kwargs": {"enable_thinking": False}}
    answer = _ask(client, "qwen3", response_format=form, extra_body=off)
    assert answer.choices[0].message.content.strip() == "12345"
    answer = _ask(client, "r1", response_format=form)
    assert answer.choices[0].message.content == "" and answer.choices[0].message.reasoning_content


def test_reasoning_of_earlier_answers_is_the_templates(client: openai.OpenAI) -> None:
    def tokens(model: str, **more: str) -> int:
        said = {"role": "assistant", "content": "x"} | more
        count = _ask(client, model, messages=[*MESSAGES, said, *MESSAGES]).usage.prompt_tokens
        assert isinstance(count, int)
        return count

    assert tokens("qwen3", reasoning_content="so") == tokens("qwen3") + len("<think>\nso\n</think>\n\n")
    assert tokens("r1", reasoning_content="so") == tokens("r1")


def test_effort_is_the_templates(client: openai.OpenAI) -> None:
    plain = _ask(client, "effort").usage.prompt_tokens
    assert _ask(client, "effort", reasoning_effort="high").usage.prompt_tokens == plain + 4
    body = {"chat_template_kwargs": {"reasoning_effort": "low"}}
    assert _ask(client, "effort", extra_body=body).usage.prompt_tokens == plain + 3


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"reasoning_effort": "high"}, "reasoning_effort"),
        ({"verbosity": "low"}, "verbosity"),
        ({"extra_body": {"chat_template_kwargs": {"messages": []}}}, "chat_template_kwargs.messages"),
        ({"extra_body": {"chat_template_kwargs": {"enable_thinkin": 1}}}, "chat_template_kwargs.enable_thinkin"),
    ],
)
def test_what_a_template_does_not_read(client: openai.OpenAI, more: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError, match="a variable of the model's chat template, which has") as raised:
        _ask(client, "qwen3", **more)
    assert raised.value.param == param and "enable_thinking" in raised.value.message


def test_a_variable_twice(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="reasoning_effort: expected once"):
        _ask(
            client,
            "effort",
            reasoning_effort="high",
            extra_body={"chat_template_kwargs": {"reasoning_effort": "low"}},
        )
