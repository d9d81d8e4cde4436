"""What callers write, made into the token ids of one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from lepton_ai.backends.base import Int32Array
from lepton_ai.engine.prompts import Message, Prompt, encode_prompt
from lepton_ai.errors import InvalidRequest
from lepton_ai.text.answer_format import AnswerFormat, Opening
from lepton_ai.text.gguf_tokens import CHAT_TEMPLATE_KEY
from lepton_ai.text.tokenizer import Tokenizer
from lepton_ai.weights.checkpoint import Checkpoint
from lepton_ai.weights.folder import CheckpointFolder

if TYPE_CHECKING:
    from lepton_ai.text.chat_template import ChatTemplate


_END_SEGMENTS = 4
"""More of a prompt than what can say that it ends in or after reasoning."""


@dataclass(frozen=True, slots=True)
class ChatPrompt:
    """The token ids that an answer continues, and where in its format it begins."""

    ids: list[int]
    opening: Opening


class PromptEncoder:
    """The tokenizer of a checkpoint, and its chat template, which is compiled when it is first used."""

    def __init__(self, checkpoint: Checkpoint, tokenizer: Tokenizer) -> None:
        self._checkpoint = checkpoint
        self._tokenizer = tokenizer

    def encode(self, prompt: Prompt) -> Int32Array:
        """Checked ids of text, or of ids. Raises InvalidRequest for an empty prompt or an unknown id."""
        return encode_prompt(prompt, self._tokenizer)

    @property
    def has_chat_template(self) -> bool:
        """Whether ``chat`` can be asked of the model; a base model only continues texts."""
        if isinstance(self._checkpoint, CheckpointFolder):
            return self._tokenizer.chat_template is not None
        return CHAT_TEMPLATE_KEY in self._checkpoint.metadata

    def chat(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, object]] | None = None,
        variables: Mapping[str, object] | None = None,
    ) -> ChatPrompt:
        """What answers a conversation. A control token in the text of a message, tool or variable is text here.

        Raises InvalidRequest for tools or a variable that the chat template does not read, TemplateError if the model
        has no chat template or it refuses the messages.
        """
        template = self._chat_template
        if tools and not template.answer_format.takes_tools:
            raise InvalidRequest("tools: expected a model whose chat template takes tools", param="tools")
        segments = template.render_segments(messages, tools=tools, variables=variables)
        end = "".join(segment.text for segment in segments[-_END_SEGMENTS:])
        return ChatPrompt(self._tokenizer.encode_segments(segments), template.answer_format.opening(end))

    @property
    def answer_format(self) -> AnswerFormat:
        """How the model writes reasoning and calls of tools. Raises TemplateError if it has no chat template."""
        return self._chat_template.answer_format

    @property
    def chat_variables(self) -> frozenset[str]:
        """What of its own the chat template reads. Raises TemplateError if there is none."""
        return self._chat_template.variables

    @cached_property
    def _chat_template(self) -> ChatTemplate:
        from lepton_ai.text.chat_template import ChatTemplate

        if isinstance(self._checkpoint, CheckpointFolder):
            return ChatTemplate.from_tokenizer(self._tokenizer)
        return ChatTemplate.from_metadata(self._checkpoint.metadata, self._tokenizer)
