"""Requests of given shapes: prompts that nobody wrote, no two alike, of as many tokens as are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lepton_ai.errors import InvalidRequest
from lepton_ai.loadgen.lengths import Lengths
from lepton_ai.loadgen.target import CHATS, COMPLETIONS, LoadRequest, Target
from lepton_ai.loadgen.workload import chat_of, encode_request

_TEXT = (
    "time year people way day man thing woman life child world school state family student group country problem hand "
    "part place case week company system program question work government number night point home water room mother "
    "area money story fact month lot right study book eye job word business issue side kind head house service friend "
    "father power hour game line end member law car city community name president team minute idea body information "
    "back parent face others level office door health person art war history party result change morning reason "
    "research girl guy moment air teacher force education"
)
WORDS = tuple(_TEXT.split())
"""Words that are a token each in nearly every vocabulary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """``shared_prefix_tokens`` of each prompt are the same in all. Chats are texts of about as many tokens, and the
    server's template adds its own; prompts that are no chats are ids, as many as the shape says.

    Raises InvalidRequest for a prompt that would have nothing of its own.
    """

    prompt_tokens: Lengths
    output_tokens: Lengths
    shared_prefix_tokens: int = 0
    is_chat: bool = False
    ignore_eos: bool = True

    def __post_init__(self) -> None:
        if self.shared_prefix_tokens >= self.prompt_tokens.least:
            raise InvalidRequest(
                f"--shared-prefix-tokens: expected fewer than the {self.prompt_tokens.least} of the shortest prompt, "
                f"got {self.shared_prefix_tokens}",
                param="shared_prefix_tokens",
            )


@dataclass(frozen=True, slots=True)
class Pool:
    """What prompts are drawn from. ``ids`` is None for a server that does not tokenize: prompts are texts then."""

    ids: Sequence[int] | None
    words_per_token: float

    @classmethod
    async def ask(cls, target: Target, model: str) -> Pool:
        """That of a model. Raises RequestFailed."""
        ids = await target.tokenize(model, " ".join(WORDS))
        return cls(None, 1.0) if ids is None else cls(sorted(set(ids)), len(WORDS) / len(ids))


class SyntheticWorkload:
    """A workload of one shape; equal seeds give equal requests."""

    def __init__(self, model: str, shape: Shape, pool: Pool, *, seed: int) -> None:
        self._model = model
        self._shape = shape
        self._words_per_token = pool.words_per_token
        lengths, content = np.random.SeedSequence(seed).spawn(2)
        self._lengths, self._content = np.random.default_rng(lengths), np.random.default_rng(content)
        is_text = shape.is_chat or pool.ids is None
        self._ids = None if is_text else np.array(pool.ids, np.int64)
        self._prefix = self._draw(shape.shared_prefix_tokens)

    def next_request(self) -> LoadRequest:
        """Of lengths that are drawn, and of content that no other has."""
        shape = self._shape
        return self._make(shape.prompt_tokens.draw(self._lengths), shape.output_tokens.draw(self._lengths))

    def largest_request(self) -> LoadRequest:
        """Of the largest lengths."""
        return self._make(self._shape.prompt_tokens.most, self._shape.output_tokens.most)

    def _make(self, prompt_tokens: int, output_tokens: int) -> LoadRequest:
        shape = self._shape
        drawn = [*self._prefix, *self._draw(prompt_tokens - len(self._prefix))]
        fields: dict[str, object] = {"temperature": 0}
        if self._ids is not None:
            fields["prompt"] = drawn
        else:
            text = " ".join(WORDS[i] for i in drawn)
            fields |= {"messages": chat_of(text)} if shape.is_chat else {"prompt": text}
        path = CHATS if shape.is_chat else COMPLETIONS
        return encode_request(path, self._model, fields, max_tokens=output_tokens, ignore_eos=shape.ignore_eos)

    def _draw(self, num_tokens: int) -> list[int]:
        """Ids, or numbers of words."""
        if self._ids is not None:
            return [int(i) for i in self._content.choice(self._ids, num_tokens)]
        num_words = max(round(num_tokens * self._words_per_token), 1) if num_tokens else 0
        return [int(i) for i in self._content.integers(0, len(WORDS), num_words)]
