"""Log-probabilities in the two shapes that the original has: of chats, and of completions."""

from __future__ import annotations

from collections.abc import Iterable

from lepton_ai.engine.outputs import TokenLogprob
from lepton_ai.text.tokenizer import Tokenizer

Logprobs = dict[str, object]


class LogprobsWriter:
    """Spells tokens of one tokenizer. A token that is no whole character is shown with a replacement character."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def chat(self, entries: Iterable[TokenLogprob]) -> Logprobs:
        """``{"content": [...]}``: each token with its bytes and its alternatives."""
        return {"content": self.chat_entries(entries), "refusal": None}

    def chat_entries(self, entries: Iterable[TokenLogprob]) -> list[Logprobs]:
        """The list in it."""
        return [
            self._token(e.token_id, e.logprob) | {"top_logprobs": [self._token(i, p) for i, p in e.top]}
            for e in entries
        ]

    def completion(self, entries: Iterable[tuple[int, TokenLogprob | None]], offset: int = 0) -> Logprobs:
        """Parallel lists, for token ids with what is known of them; ``offset`` is where the text begins."""
        tokens: list[str] = []
        offsets: list[int] = []
        known: list[TokenLogprob | None] = []
        for token_id, entry in entries:
            tokens.append(self._text(token_id))
            offsets.append(offset)
            known.append(entry)
            offset += len(tokens[-1])
        return {
            "tokens": tokens,
            "token_logprobs": [None if e is None else e.logprob for e in known],
            "top_logprobs": [None if e is None else {self._text(i): p for i, p in e.top} for e in known],
            "text_offset": offsets,
        }

    def _token(self, token_id: int, logprob: float) -> dict[str, object]:
        spelled = self._bytes(token_id)
        return {"token": spelled.decode("utf-8", "replace"), "logprob": logprob, "bytes": list(spelled)}

    def _text(self, token_id: int) -> str:
        return self._bytes(token_id).decode("utf-8", "replace")

    def _bytes(self, token_id: int) -> bytes:
        is_known = token_id < self._tokenizer.vocab_size
        return self._tokenizer.token_bytes(token_id) if is_known else b""
