"""``/v1/chat/completions``: the request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from lepton_ai.engine.sampling_params import SamplingParams
from lepton_ai.errors import InvalidRequest
from lepton_ai.serve.protocol.base import RequestModel, SamplingFields


class ContentPart(RequestModel):
    """A part of a message: text alone is understood."""

    type: str
    text: str | None = None


class ChatMessage(RequestModel):
    """A message of a conversation. Which keys a role may have is for the model's template to say."""

    role: str
    content: str | list[ContentPart] | None = None
    name: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None

    def to_template(self, place: str) -> dict[str, object]:
        """The message as templates take it. Raises InvalidRequest for a part that is not text."""
        message = self.model_dump(exclude_none=True)
        message["content"] = _text(self.content, f"{place}.content")
        return message


class ChatRequest(SamplingFields):
    """A conversation to answer. ``max_completion_tokens`` is the newer name of ``max_tokens``."""

    messages: list[ChatMessage]
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None

    unsupported: ClassVar[Mapping[str, str]] = {
        "audio": "no model here makes sound",
        "function_call": "it is the older form of tool_choice",
        "functions": "they are the older form of tools",
        "metadata": "nothing is stored",
        "modalities": "models here make text alone",
        "prediction": "there is no speculation on given text",
        "store": "nothing is stored",
        "tools": "they are not run yet",
        "tool_choice": "tools are not run yet",
        "parallel_tool_calls": "tools are not run yet",
        "web_search_options": "nothing is fetched",
    }

    def params(self, defaults: SamplingParams) -> SamplingParams:
        """How to sample. Raises InvalidRequest, naming the field."""
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise InvalidRequest("max_tokens: expected none beside max_completion_tokens", param="max_tokens")
        if self.top_logprobs is not None and not self.logprobs:
            raise InvalidRequest("top_logprobs: expected none without logprobs", param="top_logprobs")
        max_tokens = self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens
        logprobs = (self.top_logprobs or 0) if self.logprobs else None
        return self.sampling(defaults, max_tokens=max_tokens, logprobs=logprobs)

    def template_messages(self) -> list[dict[str, object]]:
        """The conversation as templates take it."""
        return [message.to_template(f"messages[{i}]") for i, message in enumerate(self.messages)]


def _text(content: str | list[ContentPart] | None, place: str) -> str | None:
    if not isinstance(content, list):
        return content
    for index, part in enumerate(content):
        if part.type != "text" or part.text is None:
            raise InvalidRequest(
                f"{place}[{index}]: expected a part with text, got {part.type!r:.40}", param=f"{place}[{index}]"
            )
    return "".join(part.text or "" for part in content)
