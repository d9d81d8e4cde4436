"""Stop strings in a stream of text, wherever the stream is cut."""

from __future__ import annotations

from collections.abc import Sequence

from lepton_ai.errors import InvalidRequest


class _Search:
    """Knuth-Morris-Pratt: how much of ``pattern`` the text seen so far ends with."""

    __slots__ = ("_fallback", "_matched", "pattern")

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self._matched = 0
        self._fallback = [0] * len(pattern)
        length = 0
        for position in range(1, len(pattern)):
            while length and pattern[position] != pattern[length]:
                length = self._fallback[length - 1]
            length += pattern[position] == pattern[length]
            self._fallback[position] = length

    def step(self, char: str) -> int:
        """Take one more character; the length of the pattern's longest prefix that now ends the text."""
        matched = self._matched
        while matched and self.pattern[matched] != char:
            matched = self._fallback[matched - 1]
        matched += self.pattern[matched] == char
        self._matched = matched
        return matched


class StopMatcher:
    """Passes text through up to the first stop string, of which no character is ever let out.

    The first is the one that is complete first, the longest of those that end together; so the result does not depend
    on how the text is cut into pieces. Text that may still become a stop string is held back.

    Raises InvalidRequest for a stop string that is empty or not a string.
    """

    __slots__ = ("_held", "_searches", "matched")

    def __init__(self, stop_strings: Sequence[str]) -> None:
        if isinstance(stop_strings, str):
            raise InvalidRequest("stop: expected a list of strings, got one string", param="stop")
        for stop in stop_strings:
            if not isinstance(stop, str) or not stop:
                raise InvalidRequest(f"stop: expected non-empty strings, got {stop!r}", param="stop")
        self._searches = [_Search(stop) for stop in stop_strings]
        self._held = ""
        self.matched: str | None = None
        """The stop string that was found."""

    def feed(self, piece: str) -> str:
        """The text that is now known to come before any stop string. Nothing more once one was found."""
        if self.matched is not None or not piece:
            return ""
        if not self._searches:
            return piece
        text = self._held + piece
        held = 0
        for end, char in enumerate(piece, start=len(self._held) + 1):
            held = 0
            for search in self._searches:
                length = search.step(char)
                if length == len(search.pattern) and length > len(self.matched or ""):
                    self.matched = search.pattern
                held = max(held, length)
            if self.matched is not None:
                self._held = ""
                return text[: end - len(self.matched)]
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def finish(self) -> str:
        """The text that was held back and became no stop string."""
        rest, self._held = self._held, ""
        return rest
