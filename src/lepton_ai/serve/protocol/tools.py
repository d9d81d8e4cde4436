"""Tools of a chat: what may be called, what must be, and what was."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from lepton_ai.engine.constraints.answer_grammar import CallChoice, Function
from lepton_ai.errors import InvalidRequest
from lepton_ai.serve.protocol.base import RequestModel

MAX_TOOLS = 128

_Name = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
_NOTHING: dict[str, Any] = {"type": "object", "properties": {}}


class FunctionDefinition(RequestModel):
    """A function: ``parameters`` is the JSON schema of its arguments, none if it is left out.

    ``strict``: arguments match the schema, whatever it says; what cannot be held is refused. Otherwise they match what
    of the schema can be.
    """

    name: _Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None

    def to_function(self, place: str) -> Function:
        """The function as a call sees it. Raises InvalidRequest for a schema of something else than an object."""
        schema = self.parameters or (_NOTHING | {"additionalProperties": False})
        if schema.get("type") != "object":
            raise InvalidRequest(
                f"{place}.parameters: expected a JSON schema of type 'object', got type {schema.get('type')!r:.40}",
                param=f"{place}.parameters",
            )
        return Function(self.name, schema, bool(self.strict))


class Tool(RequestModel):
    """A tool that may be called: a function."""

    type: Literal["function"]
    function: FunctionDefinition

    unsupported: ClassVar[Mapping[str, str]] = {"custom": "tools are functions here"}

    def to_template(self) -> dict[str, object]:
        """The tool as models are shown it, in the order that they were trained on."""
        shown: dict[str, object] = {"name": self.function.name}
        if self.function.description is not None:
            shown["description"] = self.function.description
        return {"type": "function", "function": shown | {"parameters": self.function.parameters or _NOTHING}}


class FunctionName(RequestModel):
    """A function by its name."""

    name: str


class NamedTool(RequestModel):
    """A tool by its name."""

    type: Literal["function"]
    function: FunctionName


class AllowedTools(RequestModel):
    """Some of the tools, and whether one of them must be called."""

    mode: Literal["auto", "required"]
    tools: list[NamedTool]


class AllowedToolChoice(RequestModel):
    """A choice among some of the tools."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


ToolChoice = Literal["none", "auto", "required"] | NamedTool | AllowedToolChoice


class CalledFunction(RequestModel):
    """A function with the arguments that a model gave it: a JSON object, as a string.

    ``parsed_arguments`` are what the original's client made of them; it sends them back.
    """

    name: str
    arguments: str
    parsed_arguments: Any = None


class ToolCall(RequestModel):
    """A call that a model made in an earlier answer. ``index`` is its place, which the order says too."""

    id: str
    index: int | None = None
    type: Literal["function"]
    function: CalledFunction

    def to_template(self, place: str) -> dict[str, object]:
        """The call as templates take it, with its arguments as an object. Raises InvalidRequest for other arguments."""
        try:
            arguments = json.loads(self.function.arguments)
        except (ValueError, RecursionError):
            arguments = None
        if not isinstance(arguments, dict):
            name = f"{place}.function.arguments"
            raise InvalidRequest(f"{name}: expected a JSON object as a string", param=name)
        return {
            "id": self.id,
            "type": "function",
            "function": {"name": self.function.name, "arguments": arguments},
        }


def functions_of(tools: Sequence[Tool]) -> list[Function]:
    """What the tools of a request may be called with. Raises InvalidRequest for none, too many, or a name twice."""
    if not 0 < len(tools) <= MAX_TOOLS:
        raise InvalidRequest(f"tools: expected 1 to {MAX_TOOLS}, got {len(tools)}", param="tools")
    functions = [tool.function.to_function(f"tools[{i}].function") for i, tool in enumerate(tools)]
    if len({function.name for function in functions}) < len(functions):
        raise InvalidRequest("tools: expected each name once", param="tools")
    return functions


def chosen_functions(choice: ToolChoice, functions: Sequence[Function]) -> tuple[CallChoice, list[Function]]:
    """Which functions may be called, and whether one must be. Raises InvalidRequest for a name that is none."""
    match choice:
        case "none":
            return CallChoice.NEVER, [*functions]
        case "auto":
            return CallChoice.MAYBE, [*functions]
        case "required":
            return CallChoice.ALWAYS, [*functions]
        case NamedTool():
            return CallChoice.ALWAYS, _named([choice], functions)
        case AllowedToolChoice(allowed_tools=allowed):
            call = CallChoice.ALWAYS if allowed.mode == "required" else CallChoice.MAYBE
            return call, _named(allowed.tools, functions)


def _named(wanted: Sequence[NamedTool], functions: Sequence[Function]) -> list[Function]:
    names = {tool.function.name for tool in wanted}
    found = [function for function in functions if function.name in names]
    if not found or len(found) < len(names):
        expected = ", ".join(function.name for function in functions)
        raise InvalidRequest(f"tool_choice: expected names of the tools, {expected:.200}", param="tool_choice")
    return found
