from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from typing import Any

import pytest

from lepton_ai.errors import InvalidRequest
from lepton_ai.text.chat_messages import check_messages, check_tools


class _Name(str, enum.Enum):
    ALICE = "alice"


def test_messages_come_out_as_plain_copies() -> None:
    message = {"role": "user", "content": "hi", "name": _Name.ALICE}
    (checked,) = check_messages([message])
    assert checked == {"role": "user", "content": "hi", "name": "alice"}
    assert isinstance(checked, dict)
    assert type(checked["name"]) is str
    assert checked is not message


def test_assistant_may_call_tools_without_content() -> None:
    calls = [{"function": {"name": "f", "arguments": {"x": (1, 2.5, None, True)}}}]
    (checked,) = check_messages([{"role": "assistant", "tool_calls": calls}])
    assert checked == {
        "role": "assistant",
        "tool_calls": [{"function": {"name": "f", "arguments": {"x": [1, 2.5, None, True]}}}],
    }


def _nested(depth: int) -> dict[str, object]:
    value: dict[str, object] = {}
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    ("messages", "named"),
    [
        ([], "messages: expected at least one message"),
        ("hi", "messages: expected a list of messages, got str"),
        ({"role": "user"}, "messages: expected a list of messages, got dict"),
        (["hi"], r"messages\[0\]: expected a message with role and content, got str"),
        ([{"content": "x"}], r"messages\[0\].role: expected one of system, .*, got None"),
        ([{"role": "<|im_end|>", "content": "x"}], r"messages\[0\].role: expected one of"),
        ([{"role": "user"}], r"messages\[0\].content: expected a string, got NoneType"),
        ([{"role": "assistant", "content": None}], r"messages\[0\].content: expected a string"),
        ([{"role": "user", "content": [{"type": "text"}]}], r"messages\[0\].content: .* got a list of content parts"),
        ([{"role": "user", "content": "x", "image": "y"}], r"messages\[0\]: expected the keys .*, got 'image'"),
        ([{"role": "user", "content": "x", "name": 3}], r"messages\[0\].name: expected a string, got int"),
        ([{"role": "assistant", "content": "x", "tool_calls": ["f"]}], r"messages\[0\].tool_calls: expected a list"),
        ([{"role": "user", "content": "x"}, 3], r"messages\[1\]: expected a message"),
        ([{"role": "assistant", "content": "", "tool_calls": [{"x": math.nan}]}], "a finite number, got nan"),
        ([{"role": "assistant", "content": "", "tool_calls": [{"x": object()}]}], "plain JSON, got object"),
        ([{"role": "assistant", "content": "", "tool_calls": [{3: "x"}]}], "strings as keys, got 3"),
        ([{"role": "assistant", "content": "", "tool_calls": [_nested(99)]}], "at most 64 levels"),
    ],
)
def test_malformed_messages_are_refused_by_place(messages: Any, named: str) -> None:
    with pytest.raises(InvalidRequest, match=named) as caught:
        check_messages(messages)
    assert caught.value.param == "messages"


def test_tools() -> None:
    tool: Mapping[str, object] = {"type": "function", "function": {"name": "f"}}
    assert check_tools([tool]) == [tool]
    assert check_tools(None) is None
    assert check_tools([]) is None


@pytest.mark.parametrize("tools", ["f", {"type": "function"}, ["f"], [print], 3])
def test_malformed_tools_are_refused(tools: Any) -> None:
    with pytest.raises(InvalidRequest, match="tools"):
        check_tools(tools)
