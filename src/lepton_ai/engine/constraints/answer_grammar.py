"""What an answer must look like that may reason, call tools, or be JSON of a schema: one grammar for all of it.

Reasoning is free. Text is free too, but where a call begins the call is all that can follow. It has the name of a tool
and its arguments; more calls may follow where the format knows several, then the answer ends.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from lepton_ai.engine.constraints.constraint import JSON_WHITESPACE, Constraint, ConstraintKind
from lepton_ai.errors import InvalidRequest
from lepton_ai.text.answer_format import AnswerFormat, Opening, ToolFormat

_ANY = r"/(.|\n)*/"


class CallChoice(enum.Enum):
    """Whether an answer calls tools."""

    NEVER = "never"
    MAYBE = "maybe"
    ALWAYS = "always"


@dataclass(frozen=True, slots=True)
class Function:
    """A tool as a call sees it. ``parameters`` is the JSON schema of its arguments.

    ``is_strict``: what of the schema the compiler does not support is refused. Otherwise that part is not held.
    """

    name: str
    parameters: Mapping[str, object]
    is_strict: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRules:
    """What is asked of an answer. ``functions`` are those that may be called; ``schema`` is of its text."""

    functions: Sequence[Function] = ()
    choice: CallChoice = CallChoice.NEVER
    allows_several: bool = True
    schema: Constraint | None = None


def answer_constraint(rules: AnswerRules, answers: AnswerFormat, opening: Opening) -> Constraint | None:
    """The constraint of an answer, None where anything may be written.

    Raises InvalidRequest for functions where ``answers`` has no form of a call, and for a schema that is too long.
    """
    if rules.functions and answers.tools is None:
        raise InvalidRequest("tools: expected a model whose chat template shows a known form of calls", param="tools")
    may_reason = answers.reasoning is not None and opening is not Opening.AFTER_REASONING
    if not rules.functions and (rules.schema is None or not may_reason):
        return rules.schema
    return Constraint.grammar("\n".join(_Grammar(rules, answers).lines(opening)))


class _Grammar:
    """Lines of a grammar in llguidance's notation."""

    def __init__(self, rules: AnswerRules, answers: AnswerFormat) -> None:
        self._rules = rules
        self._tools = answers.tools if rules.functions else None
        self._reasoning = answers.reasoning

    def lines(self, opening: Opening) -> Iterator[str]:
        """All of them."""
        if self._reasoning is None or opening is Opening.AFTER_REASONING:
            yield "start: body"
            yield from self._body("body", "")
        elif opening is Opening.IN_REASONING:
            yield "start: thought body"
            yield from self._thought(self._reasoning.end)
            yield from self._body("body", "")
        else:
            begin = f"/\\s*{_in_pattern(self._reasoning.begin)}"
            yield "start: THINK thought body | plain"
            yield f"THINK: {begin}/"
            yield from self._thought(self._reasoning.end)
            yield from self._body("body", "")
            # Without it, text of any kind would be another way to read the reasoning.
            yield from self._body("plain", f" & ~{begin}(.|\\n)*/")
        yield from self._shared()

    def _thought(self, end: str) -> Iterator[str]:
        yield f"thought[lazy]: /(.|\\n)*{_in_pattern(end)}/"

    def _body(self, name: str, but: str) -> Iterator[str]:
        """The rule ``name``: what follows the reasoning. Its text is none of ``but``."""
        rules, tools = self._rules, self._tools
        calls = ["SPACE calls"] if tools is not None and rules.choice is not CallChoice.NEVER else []
        if rules.choice is CallChoice.ALWAYS:
            ways = calls
        elif rules.schema is not None:
            ways = ["json", *calls]
        else:
            but += self._not_bare()
            ways = [f"{name.upper()}_TEXT"]
            yield f"{name.upper()}_TEXT: {_ANY}{self._no_mark()}{but}"
            if calls and tools is not None:
                ways.append("bare")
                if tools.begin:
                    ways.append(f"{name}_head rest")
                    yield f"{name}_head[lazy]: {name.upper()}_HEAD"
                    yield f"{name.upper()}_HEAD: /(.|\\n)*{_in_pattern(tools.begin.strip())}/{but}"
        yield f"{name}: {' | '.join(ways)}"

    def _no_mark(self) -> str:
        begin = "" if self._tools is None else self._tools.begin.strip()
        return f" & ~/(.|\\n)*{_in_pattern(begin)}(.|\\n)*/" if begin else ""

    def _not_bare(self) -> str:
        if self._tools is None or self._rules.choice is CallChoice.NEVER:
            return ""
        names = "|".join(function.name for function in self._rules.functions)
        return f" & ~/{self._tools.bare_head(f'(?:{names})')}(.|\\n)*/"

    def _shared(self) -> Iterator[str]:
        yield "SPACE: /[ \\n]{0,2}/"
        if self._rules.schema is not None:
            yield f"json: SPACE json_value\njson_value: {_json_of(self._rules.schema)}"
        if self._tools is not None and self._rules.choice is not CallChoice.NEVER:
            yield from self._calls(self._tools)

    def _calls(self, tools: ToolFormat) -> Iterator[str]:
        begin, functions = tools.begin.strip(), self._rules.functions
        more = ""
        if tools.separator is not None and self._rules.allows_several:
            more = f" ({_literal(tools.separator)} {_literal(begin)} call)*"
        yield f"calls: {_literal(begin)} rest"
        yield f"rest: call{more}"
        ways = " | ".join(f"of_{i}" for i in range(len(functions)))
        yield f"""call: {_literal(tools.begin[len(begin) :] + '{"name": "')} ({ways}) {_literal("}" + tools.end)}"""
        yield f"bare: ({' | '.join(f'bare_{i}' for i in range(len(functions)))}) BARE_END"
        yield "BARE_END: /\\s*\\}(\\s*```)?/"
        for index, function in enumerate(functions):
            head = _literal(f'{function.name}", "{tools.arguments_key}": ')
            yield f"of_{index}: {head} arguments_{index}"
            yield f"bare_{index}: bare_{index}_head SPACE arguments_{index}"
            yield f"bare_{index}_head[lazy]: /{tools.bare_head(function.name)}/"
            yield f"arguments_{index}: {_arguments_of(function)}"


def _literal(text: str) -> str:
    """A string of the grammar; nothing for none."""
    return json.dumps(text) if text else ""


def _in_pattern(mark: str) -> str:
    """A mark, letters and brackets, inside ``/.../``."""
    return mark.replace("/", "\\/")


def _json_of(constraint: Constraint) -> str:
    assert constraint.kind is ConstraintKind.JSON_SCHEMA
    return _inline(json.loads(constraint.source), is_strict=True)


def _arguments_of(function: Function) -> str:
    return _inline(function.parameters, is_strict=function.is_strict)


def _inline(schema: Mapping[str, object], *, is_strict: bool) -> str:
    try:
        return "%json " + json.dumps(
            {**schema, "x-guidance": {"lenient": not is_strict, "whitespace_pattern": JSON_WHITESPACE}}
        )
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"tools: expected JSON schemas, got {error}", param="tools") from None
