"""Token ids to text as they come, one by one."""

from __future__ import annotations

import codecs

from lepton_ai.text.tokenizer import Tokenizer


class Detokenizer:
    """Turns one sequence of ids into pieces of text.

    The pieces, with that of ``finish``, joined are what ``Tokenizer.decode`` gives for the whole sequence. A character
    whose bytes are spread over tokens is held back until it is complete. Each token costs its own length only.
    """

    __slots__ = ("_decoder", "_skip_special_tokens", "_tokenizer")

    def __init__(self, tokenizer: Tokenizer, *, skip_special_tokens: bool = True) -> None:
        self._tokenizer = tokenizer
        self._skip_special_tokens = skip_special_tokens
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, token_id: int) -> str:
        """The text that ``token_id`` completes, often none. Raises InvalidRequest for an id out of range."""
        if self._skip_special_tokens and self._tokenizer.is_control(token_id):
            return ""
        return self._decoder.decode(self._tokenizer.token_bytes(token_id))

    def finish(self) -> str:
        """What is still held back: an incomplete character, as U+FFFD. The detokenizer can then start anew."""
        rest = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return rest
