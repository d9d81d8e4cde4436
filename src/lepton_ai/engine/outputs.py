"""What a caller gets back."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """The natural log-probability of a token under the model's unmodified distribution, with the likeliest others.

    ``top`` holds (token id, log-probability) pairs, most likely first, as many as were asked for.
    """

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts. ``cached_tokens`` of the prompt were not computed, since their KV was still there."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a streamed completion, one for each token; joined, the pieces are the completion.

    ``text`` is empty where a token completes no character, or may belong to a stop string; a later piece has it then.
    ``finish_reason`` and ``usage`` come with the last one. ``logprobs``, if asked for, has an entry for each of
    ``token_ids``. ``prompt_logprobs``, those of a completion, come with the first.
    """

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] | None = None
    finish_reason: str | None = None
    usage: Usage | None = None
    prompt_logprobs: tuple[TokenLogprob | None, ...] | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """A finished completion.

    ``token_ids`` are all that were sampled, the end token included; ``text`` ends before the end token or stop string.
    ``finish_reason``: "stop" (an end token or stop string), "length" (max_tokens or the context) or "cancelled".
    ``prompt_logprobs``, if asked for, has an entry for each token of the prompt, None for the first; each completion of
    a prompt has them all. It is None too if the completion was cancelled before its prompt was computed.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: str
    usage: Usage
    logprobs: tuple[TokenLogprob, ...] | None = None
    prompt_logprobs: tuple[TokenLogprob | None, ...] | None = None


@dataclass(frozen=True, slots=True)
class Score:
    """How likely a model finds a text. ``logprobs[i]`` is the natural log-probability of ``token_ids[i + 1]``, given
    all before it; the first token has none.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]

    @property
    def total_logprob(self) -> float:
        """Log-probability of the whole text after its first token."""
        return math.fsum(self.logprobs)


def join_chunks(chunks: Iterable[Chunk]) -> Completion:
    """The completion whose pieces these are, the last one included."""
    pieces = list(chunks)
    last = pieces[-1]
    assert last.finish_reason is not None and last.usage is not None
    return Completion(
        text="".join(p.text for p in pieces),
        token_ids=tuple(i for p in pieces for i in p.token_ids),
        finish_reason=last.finish_reason,
        usage=last.usage,
        logprobs=None if last.logprobs is None else tuple(e for p in pieces for e in p.logprobs or ()),
        prompt_logprobs=pieces[0].prompt_logprobs,
    )


@dataclass(frozen=True, slots=True)
class Classification:
    """The likeliest class, and the score of each in the order of the model: ``(label, score)`` pairs.

    Scores are probabilities: of one class among all, of each class by itself where the checkpoint says that several may
    hold; or plain numbers where it was trained to predict a number.
    """

    label: str
    score: float
    scores: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class LabeledToken:
    """A token of a text, no control token, and its class. ``text`` is what it spells by itself."""

    token_id: int
    text: str
    classification: Classification
