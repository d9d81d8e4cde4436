"""Keeps apart what a chat template writes from what its users wrote, through the template.

The messages are rendered twice: as they are, and in disguise, with each character that occurs in a control token
replaced by a private-use character wherever a user wrote it. In the disguised rendering every control token is the
template's own, whatever the template put side by side. Where it is the plain rendering in disguise, which is what
templates do that only place their messages, it is cut at its control tokens and the disguise taken off.

Strings that the template itself mentions, such as ``</think>``, stay as they are, so that it finds them; unless they
could be part of a control token.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from lepton_ai.errors import InvalidRequest, TemplateError
from lepton_ai.text.segments import ControlSplitter, Segment

Json = str | int | float | bool | None | list["Json"] | dict[str, "Json"]

_PIECE_CHARACTERS = 1 << 16
_FIRST_TWIN, _LAST_TWIN = 0x100000, 0x10FFFD


class Provenance:
    """What one template needs to tell its own control tokens from a user's text."""

    __slots__ = ("_alphabet", "_control_tokens", "_kept", "_splitter")

    def __init__(self, control_tokens: Iterable[str], mentioned: Iterable[str]) -> None:
        self._control_tokens = tuple(control_tokens)
        self._splitter = ControlSplitter(self._control_tokens)
        self._alphabet = sorted({char for token in self._control_tokens for char in token if not char.isspace()})
        kept = sorted({text for text in mentioned if self._is_apart(text)}, key=lambda text: (-len(text), text))
        self._kept = re.compile("(" + "|".join(map(re.escape, kept)) + ")") if kept else None

    def render(self, messages: Json, others: Json, render: Callable[[Json, Json], str]) -> list[Segment]:
        """The segments of a rendered chat: ``render`` takes messages and the ``others``, tools and variables.

        Raises InvalidRequest for a key that holds a control token, TemplateError where the template changes its
        messages so that a user's control token cannot be told from its own, and what ``render`` raises.
        """
        plain = render(messages, others)
        if not self._alphabet:
            return self._splitter.split(plain)
        disguise = self._make_disguise([messages, others])
        disguised = render(self._put_on_messages(messages, disguise), self._put_on(others, disguise))
        take_off = {ord(twin): char for char, twin in disguise.items()}
        segments = self._splitter.split(disguised)
        if _translated(disguised, take_off) == plain:
            return [Segment(_translated(s.text, take_off), s.is_control) for s in segments]
        changed = self._splitter.split(plain)
        if _controls(changed) != _controls(segments):
            raise TemplateError(
                "messages: expected text that holds none of the model's control tokens, since this model's chat "
                "template changes the text of messages",
                param="messages",
            )
        return changed

    def _is_apart(self, text: str) -> bool:
        """Whether no control token can overlap ``text``, and a disguise would change it."""
        for token in self._control_tokens:
            if token in text or text in token:
                return False
            for size in range(1, min(len(token), len(text))):
                if text[-size:] == token[:size] or token[-size:] == text[:size]:
                    return False
        return not set(self._alphabet).isdisjoint(text)

    def _make_disguise(self, value: Json) -> dict[str, str]:
        used: set[str] = set()
        for text in _strings(value):
            if not text.isascii():
                used.update(text)
        free = (chr(point) for point in range(_FIRST_TWIN, _LAST_TWIN) if chr(point) not in used)
        return dict(zip(self._alphabet, free, strict=False))

    def _put_on_messages(self, messages: Json, disguise: dict[str, str]) -> Json:
        """All but the roles, which are checked; a template compares them."""
        disguised = self._put_on(messages, disguise)
        if isinstance(messages, list) and isinstance(disguised, list):
            for message, made in zip(messages, disguised, strict=True):
                if isinstance(message, dict) and isinstance(made, dict) and "role" in message:
                    made["role"] = message["role"]
        return disguised

    def _put_on(self, value: Json, disguise: dict[str, str]) -> Json:
        if isinstance(value, str):
            table = str.maketrans(disguise)
            if self._kept is None:
                return _translated(value, table)
            # Every second part is one of the strings to keep.
            parts = self._kept.split(value)
            return "".join(part if index % 2 else _translated(part, table) for index, part in enumerate(parts))
        if isinstance(value, list):
            return [self._put_on(item, disguise) for item in value]
        if isinstance(value, dict):
            for key in value:
                if _controls(self._splitter.split(key)):
                    raise InvalidRequest(f"tools: expected keys without control tokens, got {key!r}", param="tools")
            return {key: self._put_on(item, disguise) for key, item in value.items()}
        return value


def _translated(text: str, table: Mapping[int, str]) -> str:
    """``str.translate`` in pieces, between which other threads run: it takes half a second for four megabytes."""
    starts = range(0, len(text), _PIECE_CHARACTERS)
    return "".join(text[start : start + _PIECE_CHARACTERS].translate(table) for start in starts)


def _controls(segments: Iterable[Segment]) -> list[str]:
    return [segment.text for segment in segments if segment.is_control]


def _strings(value: Json) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from _strings(item)
