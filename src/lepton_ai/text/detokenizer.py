"""Token ids to text as they come, one by one."""

from __future__ import annotations

import codecs

from lepton_ai.text.tokenizer import Tokenizer


class Detokenizer:
    """Turns one sequence of ids into pieces of text.

    The pieces, with that of ``finish``, joined are what ``Tokenizer.decode`` gives for the whole sequence. A character
    whose bytes are spread over tokens is held back until it is complete. Each token costs its own length only.
    With ``is_continuation`` the sequence goes on after a prompt, and the space before its first word is text.
    """

    __slots__ = ("_held", "_is_continuation", "_joiner", "_skip_special_tokens", "_tokenizer")

    def __init__(
        self, tokenizer: Tokenizer, *, skip_special_tokens: bool = True, is_continuation: bool = False
    ) -> None:
        self._tokenizer = tokenizer
        self._is_continuation = is_continuation
        self._joiner = tokenizer.joiner(is_continuation=is_continuation)
        self._skip_special_tokens = skip_special_tokens
        self._held = b""  # the beginning of a character

    def feed(self, token_id: int) -> str:
        """The text that ``token_id`` completes, often none. Raises InvalidRequest for an id out of range."""
        data = self._tokenizer.join(self._joiner, token_id, skip_special_tokens=self._skip_special_tokens)
        return self._decode(data, is_final=False)

    def finish(self) -> str:
        """What is still held back: an incomplete character, as U+FFFD. The detokenizer can then start anew."""
        self._joiner = self._tokenizer.joiner(is_continuation=self._is_continuation)
        return self._decode(b"", is_final=True)

    def _decode(self, data: bytes, *, is_final: bool) -> str:
        data = self._held + data
        text, num_decoded = codecs.utf_8_decode(data, "replace", is_final)
        self._held = data[num_decoded:]
        return text
