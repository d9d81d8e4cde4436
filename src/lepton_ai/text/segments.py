"""Text cut at the control tokens of a model, so that who wrote a control token stays known."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a prompt: either one control token, or plain text, whatever it looks like."""

    text: str
    is_control: bool = False


class ControlSplitter:
    """Finds control tokens in text that is trusted to hold them: leftmost first, then the longest."""

    __slots__ = ("_pattern",)

    def __init__(self, control_tokens: Iterable[str]) -> None:
        longest_first = sorted(control_tokens, key=lambda token: (-len(token), token))
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def split(self, text: str) -> list[Segment]:
        """``text`` as segments; joined again they are ``text``. No empty segment, no two texts side by side."""
        if self._pattern is None:
            return [Segment(text)] if text else []
        segments: list[Segment] = []
        end = 0
        for match in self._pattern.finditer(text):
            if match.start() > end:
                segments.append(Segment(text[end : match.start()]))
            segments.append(Segment(match.group(), is_control=True))
            end = match.end()
        if end < len(text):
            segments.append(Segment(text[end:]))
        return segments
