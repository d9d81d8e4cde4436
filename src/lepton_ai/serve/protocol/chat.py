"""``/v1/chat/completions``: the request."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from lepton_ai.engine.constraints.answer_grammar import AnswerRules
from lepton_ai.engine.constraints.constraint import Constraint
from lepton_ai.engine.sampling_params import SamplingParams
from lepton_ai.errors import InvalidRequest
from lepton_ai.serve.protocol.base import SamplingFields
from lepton_ai.serve.protocol.conversation import ChatMessage, check_calls
from lepton_ai.serve.protocol.tools import NamedTool, Tool, ToolChoice, chosen_functions, functions_of
from lepton_ai.text.answer_format import AnswerFormat


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a chat template gets."""

    messages: list[dict[str, object]]
    tools: list[dict[str, object]] | None
    variables: dict[str, object]


class ChatRequest(SamplingFields):
    """A conversation to answer. ``max_completion_tokens`` is the newer name of ``max_tokens``.

    ``chat_template_kwargs`` are variables of the model's chat template, ``reasoning_effort`` and ``verbosity`` too: a
    template that does not read them makes them errors. ``safety_identifier`` is the newer name of ``user``.
    ``prompt_cache_key`` changes nothing: cached prefixes are found by what they hold.
    """

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=4096, fail_fast=True)]
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    service_tier: Literal["auto", "default"] | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    modalities: list[Literal["text"]] | None = None

    unsupported: ClassVar[Mapping[str, str]] = {
        "audio": "no model here makes sound",
        "function_call": "it is the older form of tool_choice",
        "functions": "they are the older form of tools",
        "metadata": "nothing is stored",
        "moderation": "nothing is moderated",
        "prediction": "there is no speculation on given text",
        "prompt_cache_options": "what is cached is not for a request to say",
        "prompt_cache_retention": "what is cached is not for a request to say",
        "store": "nothing is stored",
        "web_search_options": "nothing is fetched",
    }

    @property
    def tenant(self) -> str:
        """Whose the request is, under one key."""
        return "/".join(name for name in (self.user, self.safety_identifier) if name)

    @property
    def has_named_choice(self) -> bool:
        """Whether one tool by its name must be called."""
        return isinstance(self.tool_choice, NamedTool)

    def params(self, defaults: SamplingParams, constraint: Constraint | None) -> SamplingParams:
        """How to sample. Raises InvalidRequest, naming the field."""
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise InvalidRequest("max_tokens: expected none beside max_completion_tokens", param="max_tokens")
        if self.top_logprobs is not None and not self.logprobs:
            raise InvalidRequest("top_logprobs: expected none without logprobs", param="top_logprobs")
        max_tokens = self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens
        logprobs = (self.top_logprobs or 0) if self.logprobs else None
        return self.sampling(defaults, max_tokens=max_tokens, logprobs=logprobs, constraint=constraint)

    def rules(self, answers: AnswerFormat) -> AnswerRules:
        """What the answer must be. Raises InvalidRequest, naming the field, for what a model cannot be asked."""
        schema = self.response_format.constraint() if self.response_format else None
        if self.tools is None:
            for name in ("tool_choice", "parallel_tool_calls"):
                if getattr(self, name) not in (None, "none"):
                    raise InvalidRequest(f"{name}: expected none without tools", param=name)
            return AnswerRules(schema=schema)
        if answers.tools is None:
            got = "whose form of calls is not known" if answers.takes_tools else "without tools"
            raise InvalidRequest(f"tools: expected a model with tools, got one {got}", param="tools")
        if schema is not None and not answers.tools.begin:
            raise InvalidRequest(
                "response_format: expected text beside tools, as this model's calls have no marks",
                param="response_format",
            )
        choice, functions = chosen_functions(self.tool_choice or "auto", functions_of(self.tools))
        several = self.parallel_tool_calls is not False and not self.has_named_choice
        return AnswerRules(functions=functions, choice=choice, allows_several=several, schema=schema)

    def conversation(self, answers: AnswerFormat, known_variables: Collection[str]) -> Conversation:
        """What the chat template gets. Raises InvalidRequest for what a template does not read."""
        check_calls(self.messages)
        for index, message in enumerate(self.messages):
            if (message.tool_calls or message.role == "tool") and not answers.takes_tools:
                raise InvalidRequest(
                    f"messages[{index}]: expected no calls of tools, as the model has none", param="messages"
                )
        messages = [message.to_template(f"messages[{i}]") for i, message in enumerate(self.messages)]
        # Models that are shown tools call them, whatever they are told.
        are_shown = self.tools is not None and self.tool_choice != "none"
        tools = [tool.to_template() for tool in self.tools or ()] if are_shown else None
        return Conversation(messages, tools, self._variables(known_variables))

    def _variables(self, known: Collection[str]) -> dict[str, object]:
        variables: dict[str, object] = {}
        for name in ("reasoning_effort", "verbosity"):
            if (value := getattr(self, name)) is not None:
                _check_known(name, name, known)
                variables[name] = value
        for name, value in (self.chat_template_kwargs or {}).items():
            _check_known(name, f"chat_template_kwargs.{name:.80}", known)
            if name in variables:
                raise InvalidRequest(f"{name}: expected once, got it in chat_template_kwargs too", param=name)
            variables[name] = value
        return variables


def _check_known(name: str, place: str, known: Collection[str]) -> None:
    if name not in known:
        listed = ", ".join(sorted(known)) or "none"
        raise InvalidRequest(
            f"{place}: expected a variable of the model's chat template, which has {listed:.200}", param=place
        )
