"""What callers write, made into the token ids of one model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from lepton_ai.backends.base import Int32Array
from lepton_ai.engine.prompts import Message, Prompt, encode_prompt
from lepton_ai.text.gguf_tokens import CHAT_TEMPLATE_KEY
from lepton_ai.text.tokenizer import Tokenizer
from lepton_ai.weights.checkpoint import Checkpoint
from lepton_ai.weights.folder import CheckpointFolder

if TYPE_CHECKING:
    from lepton_ai.text.chat_template import ChatTemplate


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

    def chat(self, messages: Sequence[Message]) -> list[int]:
        """The token ids that answer a conversation. A control token in a message's text is text here.

        Raises TemplateError if the model has no chat template or it refuses the messages.
        """
        return self._tokenizer.encode_segments(self._chat_template.render_segments(messages))

    @cached_property
    def _chat_template(self) -> ChatTemplate:
        from lepton_ai.text.chat_template import ChatTemplate

        if isinstance(self._checkpoint, CheckpointFolder):
            return ChatTemplate.from_tokenizer(self._tokenizer)
        return ChatTemplate.from_metadata(self._checkpoint.metadata, self._tokenizer)
