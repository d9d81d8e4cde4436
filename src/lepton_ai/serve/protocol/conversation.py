"""The messages of a chat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag

from lepton_ai.errors import InvalidRequest
from lepton_ai.serve.protocol.base import RequestModel, text_or_list
from lepton_ai.serve.protocol.tools import ToolCall


class ContentPart(RequestModel):
    """A part of a message: text alone is understood."""

    type: Literal["text"]
    text: str

    unsupported: ClassVar[Mapping[str, str]] = {
        "file": "models here read text alone",
        "image_url": "models here read text alone",
        "input_audio": "models here read text alone",
        "prompt_cache_breakpoint": "prefixes are found without it",
        "refusal": "models here read text alone",
    }


Content = Annotated[
    Annotated[str, Tag("(text)")] | Annotated[list[ContentPart], Field(max_length=1024, fail_fast=True), Tag("(list)")],
    Discriminator(text_or_list),
]


class ChatMessage(RequestModel):
    """A message of a conversation. Which keys a role may have is for the model's template to say.

    ``parsed`` is what the original's client made of the content; it sends it back.
    """

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Content | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None
    parsed: Any = None

    unsupported: ClassVar[Mapping[str, str]] = {
        "annotations": "no model here cites pages",
        "audio": "no model here makes sound",
        "function_call": "it is the older form of tool_calls",
        "refusal": "models here refuse in their text",
    }

    def to_template(self, place: str) -> dict[str, object]:
        """The message as templates take it. Raises InvalidRequest for a call whose arguments are no object."""
        message: dict[str, object] = {"role": self.role, "content": _text(self.content)}
        for key in ("name", "tool_call_id", "reasoning_content"):
            if (value := getattr(self, key)) is not None:
                message[key] = value
        if self.tool_calls:
            calls = enumerate(self.tool_calls)
            message["tool_calls"] = [call.to_template(f"{place}.tool_calls[{i}]") for i, call in calls]
        return message


def check_calls(messages: Sequence[ChatMessage]) -> None:
    """Raise InvalidRequest unless each call is answered, right after it, and each answer is of a call."""
    known: set[str] = set()
    open_ids: dict[str, None] = {}
    for index, message in enumerate(messages):
        place = f"messages[{index}]"
        if message.role == "tool":
            if message.tool_call_id not in known:
                raise InvalidRequest(
                    f"{place}.tool_call_id: expected the id of a call in the assistant's message before, "
                    f"got {message.tool_call_id!r:.80}",
                    param=f"{place}.tool_call_id",
                )
            open_ids.pop(message.tool_call_id or "", None)
            continue
        _check_answered(open_ids, place)
        if message.tool_call_id is not None:
            raise InvalidRequest(f"{place}.tool_call_id: expected none but with the role tool", param=place)
        if message.tool_calls is not None and (message.role != "assistant" or not message.tool_calls):
            raise InvalidRequest(
                f"{place}.tool_calls: expected calls of the assistant, or none", param=f"{place}.tool_calls"
            )
        open_ids = dict.fromkeys(call.id for call in message.tool_calls or ())
        known = set(open_ids)
    _check_answered(open_ids, f"messages[{len(messages) - 1}]")


def _check_answered(open_ids: Mapping[str, None], place: str) -> None:
    if open_ids:
        listed = ", ".join(open_ids)
        raise InvalidRequest(f"{place}: expected messages of the role tool that answer {listed:.200}", param="messages")


def _text(content: str | list[ContentPart] | None) -> str | None:
    return "".join(part.text for part in content) if isinstance(content, list) else content
