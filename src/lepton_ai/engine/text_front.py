"""What the front doors of a model have in common: they know its texts, wherever it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lepton_ai.engine.loading import TextSide
from lepton_ai.engine.prompts import Message
from lepton_ai.engine.sampling_params import SamplingParams
from lepton_ai.text.tokenizer import Tokenizer


class TextFront:
    """A base of ``LLM`` and ``AsyncLLM``."""

    def __init__(self, texts: TextSide) -> None:
        self._texts = texts

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        return self._texts.tokenizer

    @property
    def default_params(self) -> SamplingParams:
        """What holds where a caller gives no ``params``: the sampling of the model's ``generation_config.json``."""
        return self._texts.default_params

    @property
    def has_chat_template(self) -> bool:
        """Whether ``chat`` can be asked of it; a base model only continues texts."""
        return self._texts.prompts.has_chat_template

    def chat_prompt(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, object]] | None = None,
        variables: Mapping[str, object] | None = None,
    ) -> list[int]:
        """The token ids that ``chat`` answers. A control token in a message's text is text here.

        ``tools`` are JSON schemas that the model is shown; ``variables`` are those of its chat template, such as
        ``enable_thinking``. Raises InvalidRequest for what the template does not read, TemplateError if the model has
        no chat template or it refuses the messages.
        """
        return self._texts.prompts.chat(messages, tools=tools, variables=variables).ids
