"""How a model writes what is no plain text, its reasoning and calls of tools, as its chat template shows it."""

from __future__ import annotations

import enum
import re
from collections.abc import Collection
from dataclasses import dataclass


class Opening(enum.Enum):
    """Where an answer begins: after all reasoning, maybe before it, or inside of it."""

    AFTER_REASONING = "after"
    BEFORE_REASONING = "before"
    IN_REASONING = "in"


@dataclass(frozen=True, slots=True)
class ReasoningFormat:
    """What stands around the reasoning."""

    begin: str = "<think>"
    end: str = "</think>"


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """How a model calls a tool: ``begin``, an object with the name and the arguments, ``end``.

    ``begin`` and ``end`` may be empty. Small models leave them out where they should not, so an answer that starts with
    such an object, bare or in a fence, is a call too, if its name is that of a tool. ``separator`` is what stands
    between two calls; None where there is one at most. ``sign`` is a pattern for the templates that show the form.
    """

    begin: str
    end: str
    arguments_key: str
    separator: str | None
    sign: str

    def bare_head(self, name: str) -> str:
        """A pattern, for Python and for llguidance, of a call without marks up to its arguments; so is ``name``."""
        return rf'\s*(?:```(?:json)?\s*)?\{{\s*"name"\s*:\s*"{name}"\s*,\s*"{self.arguments_key}"\s*:'


_TOOL_FORMATS = (
    # Hermes 2 Pro, Qwen2.5, Qwen3.
    ToolFormat("<tool_call>\n", "\n</tool_call>", "arguments", "\n", r'<tool_call>\s*\{"name":'),
    # Llama 3.1 and later.
    ToolFormat("", "", "parameters", None, r'\{"name": function name, "parameters":'),
)


@dataclass(frozen=True, slots=True)
class AnswerFormat:
    """What a chat template says of the answers. None: the model does not reason, or has no tools in a known form.

    ``takes_tools`` says whether it shows tools to the model, in whatever form.
    """

    tools: ToolFormat | None = None
    reasoning: ReasoningFormat | None = None
    takes_tools: bool = False

    def opening(self, prompt_end: str) -> Opening:
        """Where the answer to a prompt begins: some templates open the reasoning, or leave it out."""
        end = prompt_end.rstrip()
        if self.reasoning is None or end.endswith(self.reasoning.end):
            return Opening.AFTER_REASONING
        return Opening.IN_REASONING if end.endswith(self.reasoning.begin) else Opening.BEFORE_REASONING


def read_answer_format(source: str, *, takes_tools: bool, control_tokens: Collection[str]) -> AnswerFormat:
    """The format that a template's ``source`` shows. Marks that are control tokens leave no text, and do not count."""
    spelled = source.replace('\\"', '"').replace("\\n", "\n")
    tools = reasoning = None
    if takes_tools:
        tools = next((known for known in _TOOL_FORMATS if re.search(known.sign, spelled)), None)
    if tools is not None and not {tools.begin.strip(), tools.end.strip()}.isdisjoint(control_tokens):
        tools = None
    marks = ReasoningFormat()
    if marks.end in source and not {marks.begin, marks.end} & set(control_tokens):
        reasoning = marks
    return AnswerFormat(tools, reasoning, takes_tools)
