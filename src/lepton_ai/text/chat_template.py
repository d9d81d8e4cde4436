"""The chat template of a model: a conversation as the prompt that the model was trained on."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NoReturn

import jinja2
from jinja2 import meta, nodes

from lepton_ai.errors import TemplateError
from lepton_ai.text.answer_format import read_answer_format
from lepton_ai.text.chat_messages import check_messages, check_tools, check_variables
from lepton_ai.text.gguf_tokens import CHAT_TEMPLATE_KEY, Metadata
from lepton_ai.text.provenance import Json, Provenance
from lepton_ai.text.segments import Segment
from lepton_ai.text.template_meter import TemplateLimits
from lepton_ai.text.template_sandbox import MeteredEnvironment
from lepton_ai.text.tokenizer import Tokenizer

_MAX_DATE_FORMAT = 256
_OURS = frozenset(
    [
        "messages",
        "tools",
        "documents",
        "add_generation_prompt",
        "strftime_now",
        "bos_token",
        "eos_token",
        "unk_token",
        "pad_token",
    ]
)
"""What templates get of the model and of the conversation; a caller sets no variable of these names."""


class ChatTemplate:
    """A compiled chat template. Safe to use from several threads.

    ``source`` is Jinja, with the settings and helpers that the transformers library gives to chat templates; it is
    not trusted (see ``template_sandbox``). ``control_tokens`` are those of the model, ``variables`` the further names
    that the template sees, such as ``bos_token``. ``self.variables`` are those that a caller may set,
    ``self.answer_format`` is what the template shows of the answers. Raises TemplateError for a template that does not
    compile.
    """

    def __init__(
        self,
        source: str,
        *,
        control_tokens: Iterable[str] = (),
        variables: Mapping[str, str] | None = None,
        limits: TemplateLimits | None = None,
        now: Callable[[], datetime.datetime] = datetime.datetime.now,
    ) -> None:
        self._environment = MeteredEnvironment({"raise_exception": _raise_exception})
        self._template = self._environment.compile_chat(source)
        tree = self._environment.parse(source)
        control_tokens = tuple(control_tokens)
        self._provenance = Provenance(control_tokens, _strings_of(tree))
        self._variables = dict(variables or {})
        read = _read_variables(tree)
        self.variables = frozenset(read - _OURS - self._variables.keys())
        self.answer_format = read_answer_format(source, takes_tools="tools" in read, control_tokens=control_tokens)
        self._has_developer = "developer" in source
        self._limits = limits or TemplateLimits()
        self._now = now

    @classmethod
    def from_metadata(cls, metadata: Metadata, tokenizer: Tokenizer) -> ChatTemplate:
        """The template in a GGUF file's metadata. Raises TemplateError if there is none or it does not compile."""
        if CHAT_TEMPLATE_KEY not in metadata:
            raise TemplateError("model: expected one with a chat template, got one that only completes text")
        return cls._of_model(metadata.get_str(CHAT_TEMPLATE_KEY), tokenizer)

    @classmethod
    def from_tokenizer(cls, tokenizer: Tokenizer) -> ChatTemplate:
        """The template of a Hugging Face folder. Raises TemplateError if there is none or it does not compile."""
        if tokenizer.chat_template is None:
            raise TemplateError("model: expected one with a chat template, got one that only completes text")
        return cls._of_model(tokenizer.chat_template, tokenizer)

    @classmethod
    def _of_model(cls, source: str, tokenizer: Tokenizer) -> ChatTemplate:
        variables = {"bos_token": tokenizer.bos_id, "eos_token": tokenizer.eos_id}
        return cls(
            source,
            control_tokens=tokenizer.control_tokens,
            variables={
                name: tokenizer.token_bytes(token_id).decode("utf-8")
                for name, token_id in variables.items()
                if token_id is not None
            },
        )

    def render(
        self,
        messages: Sequence[Mapping[str, object]],
        *,
        tools: Sequence[Mapping[str, object]] | None = None,
        variables: Mapping[str, object] | None = None,
        add_generation_prompt: bool = True,
    ) -> str:
        """The prompt as text, for people to read; to run it, take ``render_segments``.

        A message has a ``role`` and, as a string, its ``content``; ``tools`` are JSON schemas; ``variables`` are those
        of this template alone, such as ``enable_thinking``. With ``add_generation_prompt`` the prompt ends where the
        model's answer begins. A developer's message is the system's where the template knows no developer. Raises
        InvalidRequest for malformed messages or tools and for a variable that the template does not read, TemplateError
        for a template that refuses them, fails, or spends more than its limits.
        """
        render = self._renderer(add_generation_prompt=add_generation_prompt)
        return render(self._checked(messages), [check_tools(tools), check_variables(variables or {}, self.variables)])

    def render_segments(
        self,
        messages: Sequence[Mapping[str, object]],
        *,
        tools: Sequence[Mapping[str, object]] | None = None,
        variables: Mapping[str, object] | None = None,
        add_generation_prompt: bool = True,
    ) -> list[Segment]:
        """The prompt for ``Tokenizer.encode_segments``. Its control segments are the template's own.

        What messages, tools and variables hold is text, whatever it looks like. Where they hold no control token, the
        ids are those of the rendered text. Raises like ``render``.
        """
        render = self._renderer(add_generation_prompt=add_generation_prompt)
        others: list[Json] = [check_tools(tools), check_variables(variables or {}, self.variables)]
        return self._provenance.render(self._checked(messages), others, render)

    def _checked(self, messages: Sequence[Mapping[str, object]]) -> list[Json]:
        checked = check_messages(messages)
        for message in checked:
            if not self._has_developer and isinstance(message, dict) and message["role"] == "developer":
                message["role"] = "system"
        return checked

    def _renderer(self, *, add_generation_prompt: bool) -> Callable[[Json, Json], str]:
        now = self._now()

        def strftime_now(format: str) -> str:
            if len(format) > _MAX_DATE_FORMAT:
                raise TemplateError(f"chat template: expected a date format up to {_MAX_DATE_FORMAT} characters")
            return now.strftime(format)

        def render(messages: Json, others: Json) -> str:
            assert isinstance(others, list) and isinstance(others[1], dict)
            variables = {
                **others[1],
                **self._variables,
                "messages": messages,
                "tools": others[0],
                "documents": None,
                "add_generation_prompt": add_generation_prompt,
                "strftime_now": strftime_now,
            }
            return self._environment.render_chat(self._template, variables, self._limits)

        return render


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _read_variables(tree: nodes.Template) -> set[str]:
    """What a template looks for, in what it is given. What it sets itself counts if it asks whether it was given."""
    stored = {name.name for name in tree.find_all(nodes.Name) if name.ctx == "store"}
    tests = (test.node for test in tree.find_all(nodes.Test) if test.name in ("defined", "undefined"))
    defaults = (found.node for found in tree.find_all(nodes.Filter) if found.name in ("default", "d"))
    asked = {node.name for node in (*tests, *defaults) if isinstance(node, nodes.Name)}
    return meta.find_undeclared_variables(tree) - (stored - asked)


def _strings_of(tree: nodes.Template) -> list[str]:
    """The strings in a template's expressions: all that it can look for in a message."""
    return [const.value for const in tree.find_all(nodes.Const) if isinstance(const.value, str)]
