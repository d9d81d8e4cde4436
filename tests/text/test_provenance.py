from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lepton_ai.errors import InvalidRequest, TemplateError
from lepton_ai.text.provenance import Json, Provenance
from lepton_ai.text.segments import Segment

CONTROLS = ["<|im_start|>", "<|im_end|>", "<s>"]
MENTIONED = ["<|im_start|>", "</think>", "<|", "user"]


def _place(template: str) -> Callable[[Json, Json], str]:
    """A renderer that puts the messages, which are strings here, into ``template``."""
    return lambda messages, tools: template.format(*messages) if isinstance(messages, list) else ""


def _render(template: str, *messages: str) -> list[Segment]:
    return Provenance(CONTROLS, MENTIONED).render(list(messages), None, _place(template))


def _controls(segments: list[Segment]) -> list[str]:
    return [segment.text for segment in segments if segment.is_control]


def test_only_the_templates_control_tokens_are_control() -> None:
    assert _render("<|im_start|>{}<|im_end|>", "a<|im_end|>b<s>") == [
        Segment("<|im_start|>", is_control=True),
        Segment("a<|im_end|>b<s>"),
        Segment("<|im_end|>", is_control=True),
    ]


@pytest.mark.parametrize(
    ("template", "messages"),
    [
        ("{}{}", ["<|im_", "end|>"]),
        ("<|{}|>", ["im_end"]),
        ("<|im_end{}", ["|>"]),
        ("{}|im_end|>", ["<"]),
        ("{}>", ["<|im_end|"]),
        ("{}{}{}", ["<", "s", ">"]),
    ],
)
def test_control_token_pieced_together_stays_text(template: str, messages: list[str]) -> None:
    assert _render(template, *messages) == [Segment(template.format(*messages))]


def test_private_use_characters_of_a_user_survive() -> None:
    text = "".join(map(chr, range(0x100000, 0x100040))) + "<|im_end|>"
    assert _render("<s>{}", text) == [Segment("<s>", is_control=True), Segment(text)]


def test_strings_that_the_template_looks_for_are_found() -> None:
    def after_think(messages: Json, tools: Json) -> str:
        assert isinstance(messages, list)
        assert isinstance(messages[0], str)
        return "<s>" + messages[0].split("</think>")[-1]

    provenance = Provenance(CONTROLS, MENTIONED)
    segments = provenance.render(["secret</think>shown <|im_end|>"], None, after_think)
    assert segments == [Segment("<s>", is_control=True), Segment("shown <|im_end|>")]


def test_control_token_left_when_the_template_removes_something_stays_text() -> None:
    def without_think(messages: Json, tools: Json) -> str:
        assert isinstance(messages, list)
        assert isinstance(messages[0], str)
        return messages[0].replace("</think>", "")

    segments = Provenance(CONTROLS, MENTIONED).render(["<|im_</think>end|>"], None, without_think)
    assert segments == [Segment("<|im_end|>")]


def _shout(messages: Json, tools: Json) -> str:
    assert isinstance(messages, list)
    return "<s>" + str(messages[0]).upper().replace("<S>", "<s>")


def test_template_that_changes_text_works_while_the_text_is_harmless() -> None:
    assert Provenance(CONTROLS, []).render(["hi"], None, _shout) == [Segment("<s>", is_control=True), Segment("HI")]


def test_template_that_changes_text_is_stopped_when_it_is_not() -> None:
    with pytest.raises(TemplateError, match="messages: expected text that holds none"):
        Provenance(CONTROLS, []).render(["hi<s>"], None, _shout)


def test_key_with_a_control_token_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="tools: expected keys without control tokens"):
        Provenance(CONTROLS, []).render([], [{"a": {"<s>": 1}}], lambda messages, tools: str(tools))


def test_a_role_is_that_of_a_message_and_nothing_in_it() -> None:
    def shown(messages: Json, tools: Json) -> str:
        assert isinstance(messages, list) and isinstance(messages[0], dict)
        return f"{messages[0]['role']}<s>{json.dumps([messages[0]['calls'], tools], ensure_ascii=False)}"

    message: Json = {"role": "user", "calls": {"role": "<|im_end|>"}}
    segments = Provenance(CONTROLS, []).render([message], [{"role": {"text": "<|im_end|>"}}], shown)
    assert _controls(segments) == ["<s>"] and segments[0].text == "user"
    assert segments[-1].text.count("<|im_end|>") == 2


def test_without_control_tokens_all_is_text() -> None:
    assert Provenance([], MENTIONED).render(["<s>"], None, _place("<s>{}")) == [Segment("<s><s>")]


_FRAGMENTS = ["<|im_start|>", "<|im_end|>", "<|im_", "end|>", "<", "|", ">", "<s>", "s", "</think>", "user", "\n", "世"]


@given(st.lists(st.lists(st.sampled_from(_FRAGMENTS), max_size=5).map("".join), min_size=3, max_size=3))
def test_whatever_users_write(texts: list[str]) -> None:
    template = "<|im_start|>{}<|im_end|>{}{}<s>"
    segments = _render(template, *texts)
    assert _controls(segments) == ["<|im_start|>", "<|im_end|>", "<s>"]
    assert "".join(segment.text for segment in segments) == template.format(*texts)
