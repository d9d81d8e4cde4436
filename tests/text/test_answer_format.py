from __future__ import annotations

import pytest

from lepton_ai.text.answer_format import AnswerFormat, Opening, ReasoningFormat
from lepton_ai.text.chat_template import ChatTemplate

from .conftest import read_golden
from .templates import LLAMA3, QWEN3, R1


def _format(source: str, *control_tokens: str) -> AnswerFormat:
    return ChatTemplate(source, control_tokens=control_tokens).answer_format


def test_of_qwen2() -> None:
    found = _format(read_golden("qwen2_metadata")["tokenizer.chat_template"], "<|im_start|>", "<|im_end|>")
    assert found.tools is not None and found.takes_tools and found.reasoning is None
    assert (found.tools.begin, found.tools.end) == ("<tool_call>\n", "\n</tool_call>")
    assert (found.tools.arguments_key, found.tools.separator) == ("arguments", "\n")


def test_of_smollm2_which_has_no_tools() -> None:
    assert _format(read_golden("smollm2_metadata")["tokenizer.chat_template"]) == AnswerFormat()


def test_of_llama3_whose_calls_have_no_marks() -> None:
    found = _format(LLAMA3)
    assert found.tools is not None and found.reasoning is None
    assert (found.tools.begin, found.tools.arguments_key, found.tools.separator) == ("", "parameters", None)


def test_of_models_that_reason() -> None:
    assert _format(R1).reasoning == ReasoningFormat()
    found = _format(QWEN3)
    assert found.reasoning == ReasoningFormat() and found.tools is not None


def test_calls_of_another_form_are_not_known() -> None:
    source = "{% if tools %}<tool_call>\n<function=example>\n<parameter=x>{% endif %}"
    assert _format(source) == AnswerFormat(takes_tools=True)


def test_marks_that_are_control_tokens_leave_no_text() -> None:
    found = _format(QWEN3, "<tool_call>", "<think>")
    assert found == AnswerFormat(takes_tools=True)


@pytest.mark.parametrize(
    ("source", "variables", "opening"),
    [
        (QWEN3, {}, Opening.BEFORE_REASONING),
        (QWEN3, {"enable_thinking": True}, Opening.BEFORE_REASONING),
        (QWEN3, {"enable_thinking": False}, Opening.AFTER_REASONING),
        (R1, {}, Opening.IN_REASONING),
        (LLAMA3, {}, Opening.AFTER_REASONING),
    ],
)
def test_where_an_answer_begins(source: str, variables: dict[str, object], opening: Opening) -> None:
    template = ChatTemplate(source)
    prompt = template.render([{"role": "user", "content": "<think>"}], variables=variables)
    assert template.answer_format.opening(prompt) is opening


def test_variables_that_a_caller_may_set() -> None:
    assert ChatTemplate(QWEN3).variables == {"enable_thinking"}
    assert ChatTemplate(LLAMA3, variables={"bos_token": "<s>"}).variables == {"date_string"}
    assert ChatTemplate(R1).variables == frozenset()
