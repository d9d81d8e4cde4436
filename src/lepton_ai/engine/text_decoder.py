"""Token ids of one generation to text that ends before a stop string."""

from __future__ import annotations

from collections.abc import Sequence

from lepton_ai.text.detokenizer import Detokenizer
from lepton_ai.text.stop_strings import StopMatcher
from lepton_ai.text.tokenizer import Tokenizer


class StoppingDecoder:
    """A ``generation.TextDecoder``: control tokens leave no text. Stop strings are looked for after ``min_tokens``.

    Nor do tokens past the tokenizer's last: models round the number of their embeddings up, and can choose any.
    """

    __slots__ = ("_detokenizer", "_num_early", "_stops", "_vocab_size")

    def __init__(self, tokenizer: Tokenizer, stop_strings: Sequence[str], *, min_tokens: int = 0) -> None:
        self._num_early = min_tokens
        self._detokenizer = Detokenizer(tokenizer, is_continuation=True)
        self._stops = StopMatcher(stop_strings)
        self._vocab_size = tokenizer.vocab_size

    @property
    def is_stopped(self) -> bool:
        """Whether a stop string was found."""
        return self._stops.matched is not None

    def push(self, token_id: int) -> str:
        """The text that is certain now."""
        text = self._detokenizer.feed(token_id) if token_id < self._vocab_size else ""
        if self._num_early:
            self._num_early -= 1
            return text
        return self._stops.feed(text)

    def finish(self) -> str:
        """What was held back: an incomplete character, the beginning of a stop string."""
        return self._stops.feed(self._detokenizer.finish()) + self._stops.finish()
