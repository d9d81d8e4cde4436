"""Token ids to text as they come, one by one."""

from __future__ import annotations

import codecs

from lepton_ai.text.tokenizer import Tokenizer


class Detokenizer:
    """Turns one sequence of ids into pieces of text.

    The pieces, with that of ``finish``, joined are what ``Tokenizer.decode`` gives for the whole sequence. A character
    whose bytes are spread over tokens is held back until it is complete. Each token costs its own length only.
    """

    __slots__ = ("_held", "_skip_special_tokens", "_tokenizer")

    def __init__(self, tokenizer: Tokenizer, *, skip_special_tokens: bool = True) -> None:
        self._tokenizer = tokenizer
        self._skip_special_tokens = skip_special_tokens
        self._held = b""  # the beginning of a character

    def feed(self, token_id: int) -> str:
        """The text that ``token_id`` completes, often none. Raises InvalidRequest for an id out of range."""
        if self._skip_special_tokens and self._tokenizer.is_control(token_id):
            return ""
        return self._decode(self._tokenizer.token_bytes(token_id), is_final=False)

    def finish(self) -> str:
        """What is still held back: an incomplete character, as U+FFFD. The detokenizer can then start anew."""
        return self._decode(b"", is_final=True)

    def _decode(self, data: bytes, *, is_final: bool) -> str:
        data = self._held + data
        text, num_decoded = codecs.utf_8_decode(data, "replace", is_final)
        self._held = data[num_decoded:]
        return text
