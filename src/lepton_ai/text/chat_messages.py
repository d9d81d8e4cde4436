"""Checks of what a caller gives to a chat template, so that a template sees plain JSON of a known form."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence

from lepton_ai.errors import InvalidRequest
from lepton_ai.text.provenance import Json

ROLES = ("system", "developer", "user", "assistant", "tool")

_KEYS = frozenset(["role", "content", "name", "tool_calls", "tool_call_id", "reasoning_content"])
_MAX_DEPTH = 64


def check_messages(messages: Sequence[Mapping[str, object]]) -> list[Json]:
    """A plain copy of ``messages``. Raises InvalidRequest, naming the place, for anything a message cannot be."""
    if isinstance(messages, str | Mapping) or not isinstance(messages, Sequence):
        raise _invalid("messages", "a list of messages", type(messages).__name__)
    if not messages:
        raise _invalid("messages", "at least one message", "none")
    return [_message(message, f"messages[{index}]") for index, message in enumerate(messages)]


def check_tools(tools: Sequence[Mapping[str, object]] | None) -> list[Json] | None:
    """A plain copy of the JSON schemas of ``tools``; None for none. Raises InvalidRequest."""
    if tools is None or (isinstance(tools, Sequence) and not tools):
        return None
    if isinstance(tools, str | Mapping) or not isinstance(tools, Sequence):
        raise _invalid("tools", "a list of JSON schemas", type(tools).__name__)
    for index, tool in enumerate(tools):
        if not isinstance(tool, Mapping):
            raise _invalid(f"tools[{index}]", "a JSON schema", type(tool).__name__)
    return [_plain(tool, f"tools[{index}]") for index, tool in enumerate(tools)]


def check_variables(variables: Mapping[str, object], known: Collection[str]) -> dict[str, Json]:
    """A plain copy of a template's variables. Raises InvalidRequest, naming one that is not among the ``known``."""
    for name in variables:
        if name not in known:
            expected = ", ".join(sorted(known)) or "none"
            raise _invalid("variables", f"{expected}, as the model's chat template reads no other", repr(name))
    return {name: _plain(value, f"variables.{name}") for name, value in variables.items()}


def _message(message: Mapping[str, object], place: str) -> Json:
    if not isinstance(message, Mapping):
        raise _invalid(place, "a message with role and content", type(message).__name__)
    if unknown := sorted(str(key) for key in message if key not in _KEYS):
        raise _invalid(place, f"the keys {', '.join(sorted(_KEYS))}", f"{unknown[0]!r:.80}")
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        raise _invalid(f"{place}.role", f"one of {', '.join(ROLES)}", f"{role!r:.80}")
    if isinstance(content, list | tuple):
        raise _invalid(f"{place}.content", "a string, as this model takes text alone", "a list of content parts")
    may_lack_content = role == "assistant" and message.get("tool_calls")
    if not isinstance(content, str) and not (content is None and may_lack_content):
        raise _invalid(f"{place}.content", "a string", type(content).__name__)
    for key in ("name", "tool_call_id", "reasoning_content"):
        if not isinstance(message.get(key, ""), str):
            raise _invalid(f"{place}.{key}", "a string", type(message[key]).__name__)
    calls = message.get("tool_calls", [])
    if not isinstance(calls, list | tuple) or not all(isinstance(call, Mapping) for call in calls):
        raise _invalid(f"{place}.tool_calls", "a list of tool calls", type(calls).__name__)
    return _plain(message, place)


def _plain(value: object, place: str, depth: int = 0) -> Json:
    if depth > _MAX_DEPTH:
        raise _invalid(place, f"at most {_MAX_DEPTH} levels", "more")
    if value is None or type(value) in (str, bool, int):
        return value  # type: ignore[return-value]  # the line above says which types these are
    if isinstance(value, float):
        if not math.isfinite(value):
            raise _invalid(place, "a finite number", repr(value))
        return float(value)
    if isinstance(value, Mapping):
        for key in value:
            if type(key) is not str:
                raise _invalid(place, "strings as keys", repr(key))
        return {key: _plain(item, f"{place}.{key}", depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{place}[{index}]", depth + 1) for index, item in enumerate(value)]
    if isinstance(value, str):
        return str.__str__(value)  # an enumeration's member, say
    raise _invalid(place, "plain JSON", type(value).__name__)


def _invalid(place: str, expected: str, got: str) -> InvalidRequest:
    return InvalidRequest(f"{place}: expected {expected}, got {got}", param=re.split(r"[.[]", place)[0])
