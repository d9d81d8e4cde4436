"""Takes an answer apart while it is written: reasoning, text, and calls of tools with their arguments.

The pieces do not depend on how the text is cut into chunks, but for where pieces of one kind are cut. Nothing is held
back but what may still become a mark, the space before it, and a call whose name is not known yet. A call without marks
is one only at the beginning, and if it has the name of a tool.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Callable, Collection
from typing import NamedTuple

from lepton_ai.text.answer_format import Opening, ReasoningFormat, ToolFormat

_IN_STRING = re.compile(r'["\\]')
_OUTSIDE = re.compile(r'["{}\[\]]')
_FENCE = "```"
_NAME = "[a-zA-Z0-9_-]{1,64}"


class PieceKind(enum.Enum):
    """What a piece of an answer is. A CALL has the name of a tool; ARGUMENTS are of the last call."""

    REASONING = "reasoning"
    TEXT = "text"
    CALL = "call"
    ARGUMENTS = "arguments"


class Piece(NamedTuple):
    """A piece of an answer."""

    kind: PieceKind
    text: str


class AnswerParser:
    """One answer. ``tools`` None: none are called. ``reasoning`` None: none is written.

    ``names`` are those of the tools; without them, a call without marks is text.
    """

    def __init__(
        self,
        tools: ToolFormat | None,
        reasoning: ReasoningFormat | None,
        opening: Opening,
        *,
        names: Collection[str] = (),
    ) -> None:
        self._tools = tools
        self._begin = tools.begin.strip() if tools else ""
        self._end = tools.end.strip() if tools else ""
        self._heads = _Heads(tools) if tools else None
        self._names = names
        self._reasoning = reasoning or ReasoningFormat()
        self._held = ""
        self._space = ""  # before the last mark; text again if no call follows
        self._pieces: list[Piece] = []
        self._is_at_border = opening is Opening.IN_REASONING  # the space that follows belongs to nothing
        self._is_bare = False  # the last call had no marks
        self._depth = 0
        self._is_in_string = False
        self._step: Callable[[], bool] = self._text_start
        if reasoning is not None and opening is not Opening.AFTER_REASONING:
            self._step = self._think if opening is Opening.IN_REASONING else self._opening

    @property
    def is_reasoning(self) -> bool:
        """Whether what comes next belongs to the reasoning."""
        return self._step == self._think

    @property
    def is_text(self) -> bool:
        """Whether what comes next may be text, and so what is held back."""
        return self._step in (self._opening, self._text_start, self._text)

    @property
    def is_holding(self) -> bool:
        """Whether something is held back."""
        return bool(self._held)

    def push(self, text: str) -> list[Piece]:
        """What is known after ``text``."""
        if self._step == self._text and self._is_plain(text):
            return [Piece(PieceKind.TEXT, text)] if text else []
        self._held += text
        while self._step():
            pass
        return self._taken()

    def finish(self, *, is_cut: bool) -> list[Piece]:
        """What was held back. ``is_cut``: the text ended before the model did; a call without a name is then lost."""
        held, self._held = self._held, ""
        if self._is_at_border or (self._step == self._between and held.isspace()):
            held = ""
        if self._step in (self._opening, self._text_start, self._text, self._between):
            self._add(PieceKind.TEXT, held)
        elif self._step == self._think:
            self._add(PieceKind.REASONING, held)
        elif self._step == self._arguments:
            self._add(PieceKind.ARGUMENTS, held)
        elif self._step == self._call and not is_cut:
            self._give_back(held, "")
        return self._taken()

    def _is_plain(self, text: str) -> bool:
        """Whether ``text`` can be passed on as it is: the usual case, which must cost little."""
        if self._held or self._is_at_border:
            return False
        return not self._begin or (self._begin[0] not in text and not text[-1:].isspace())

    def _taken(self) -> list[Piece]:
        pieces, self._pieces = self._pieces, []
        return pieces

    def _add(self, kind: PieceKind, text: str) -> None:
        if text:
            self._pieces.append(Piece(kind, text))

    def _skip_border(self) -> bool:
        """Drop the space at a border. False while there may be more of it."""
        if self._is_at_border:
            self._held = self._held.lstrip()
            self._is_at_border = not self._held
        return not self._is_at_border

    def _pass_until(self, mark: str, kind: PieceKind) -> bool:
        """Pass text on until ``mark``; True once that was found. The space before it belongs to nothing."""
        found = self._held.find(mark)
        if found >= 0:
            known = self._held[:found].rstrip()
            self._add(kind, known)
            self._space = self._held[len(known) : found]
            self._held = self._held[found + len(mark) :]
            return True
        known = self._held[: len(self._held) - _overlap(self._held, mark)].rstrip()
        self._add(kind, known)
        self._held = self._held[len(known) :]
        return False

    def _opening(self) -> bool:
        text = self._held.lstrip()
        if text.startswith(self._reasoning.begin):
            self._held = text[len(self._reasoning.begin) :]
            self._is_at_border = True
            self._step = self._think
            return True
        if self._reasoning.begin.startswith(text):
            return False
        self._step = self._text_start
        return True

    def _think(self) -> bool:
        if not self._skip_border() or not self._pass_until(self._reasoning.end, PieceKind.REASONING):
            return False
        self._is_at_border = True
        self._step = self._text_start
        return True

    def _text_start(self) -> bool:
        """A call without marks, or text. False while it can be both."""
        if not self._skip_border():
            return False
        if self._heads is not None and self._names:
            match = self._heads.bare.match(self._held)
            if match and match[1] in self._names:
                self._is_bare = True
                return self._begin_call(match)
            if not match and self._heads.beginning_of_bare.fullmatch(self._held):
                return False
        self._step = self._text
        return True

    def _begin_call(self, head: re.Match[str]) -> bool:
        self._add(PieceKind.CALL, head[1])
        self._held = self._held[head.end() :]
        self._step = self._arguments
        return True

    def _text(self) -> bool:
        if self._begin:
            if not self._pass_until(self._begin, PieceKind.TEXT):
                return False
            self._step = self._call
            return True
        self._add(PieceKind.TEXT, self._held)
        self._held = ""
        return False

    def _call(self) -> bool:
        assert self._heads is not None
        if match := self._heads.marked.match(self._held):
            return self._begin_call(match)
        found = self._held.find(self._end)
        if found < 0:
            return False
        body, self._held = self._held[:found], self._held[found + len(self._end) :]
        self._give_back(body, self._end)
        return True

    def _give_back(self, body: str, end: str) -> None:
        """A call in another form: as a call if it is one, else as the text that it was."""
        try:
            call = json.loads(body)
            name, arguments = call["name"], call[self._tools.arguments_key if self._tools else ""]
        except (ValueError, RecursionError, KeyError, TypeError):
            name = arguments = None
        if isinstance(name, str) and isinstance(arguments, dict):
            self._pieces += [Piece(PieceKind.CALL, name), Piece(PieceKind.ARGUMENTS, json.dumps(arguments))]
            self._step = self._between
        else:
            self._add(PieceKind.TEXT, f"{self._space}{self._begin}{body}{end}")
            self._step = self._text

    def _arguments(self) -> bool:
        held, place = self._held, 0
        while match := (_IN_STRING if self._is_in_string else _OUTSIDE).search(held, place):
            place, char = match.end(), match[0]
            if char == "\\":
                if place == len(held):  # what it escapes comes next
                    self._add(PieceKind.ARGUMENTS, held[:-1])
                    self._held = "\\"
                    return False
                place += 1
            elif char == '"':
                self._is_in_string = not self._is_in_string
            else:
                self._depth += 1 if char in "{[" else -1
                if not self._depth:
                    self._add(PieceKind.ARGUMENTS, held[:place])
                    self._held = held[place:]
                    self._step = self._tail
                    return True
        self._add(PieceKind.ARGUMENTS, held)
        self._held = ""
        return False

    def _tail(self) -> bool:
        """What ends a call after its arguments."""
        end = "}" if self._is_bare else self._end
        found = self._held.find(end)
        if found < 0:
            return False
        self._held = self._held[found + len(end) :]
        self._step = self._between
        return True

    def _between(self) -> bool:
        """After a call: another one, or text; after a call without marks the end of its fence, or text."""
        text = self._held.lstrip()
        mark = _FENCE if self._is_bare else self._begin
        if not text.startswith(mark) and mark.startswith(text):
            return False
        self._step = self._text
        if text.startswith(mark):
            self._space = self._held[: len(self._held) - len(text)]
            self._held = text[len(mark) :]
            self._step = self._text if self._is_bare else self._call
        return True


class _Heads:
    """Patterns of the beginning of a call, up to its arguments, in the order that models are shown."""

    __slots__ = ("bare", "beginning_of_bare", "marked")

    def __init__(self, tools: ToolFormat) -> None:
        self.marked = re.compile(rf'\s*\{{\s*"name"\s*:\s*"([^"\\]+)"\s*,\s*"{tools.arguments_key}"\s*:\s*(?=\{{)')
        self.bare = re.compile(tools.bare_head(f"({_NAME})") + r"\s*(?=\{)")
        atoms = ["\\{", r"\s*", *'"name"', r"\s*", ":", r"\s*", '"', _NAME, '"', r"\s*", ",", r"\s*"]
        atoms += [*f'"{tools.arguments_key}"', r"\s*", ":", r"\s*"]
        fences: tuple[list[str], ...] = ([], [*_FENCE, r"\s*"], [*_FENCE, *"json", r"\s*"])
        self.beginning_of_bare = re.compile("|".join(_beginnings([r"\s*", *fence, *atoms]) for fence in fences))


def _beginnings(atoms: list[str]) -> str:
    """A pattern of all beginnings of a sequence of patterns."""
    made = ""
    for atom in reversed(atoms):
        made = f"{atom}(?:{made})?"
    return made


def _overlap(text: str, mark: str) -> int:
    """The length of the longest end of ``text`` that ``mark`` begins with, but is not all of it."""
    for size in range(min(len(text), len(mark) - 1), 0, -1):
        if text.endswith(mark[:size]):
            return size
    return 0
