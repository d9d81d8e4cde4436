"""What a caller gets back."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """The natural log-probability of a token under the model's unmodified distribution, with the likeliest others.

    ``top`` holds (token id, log-probability) pairs, most likely first, as many as ``logprobs`` asked for.
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
    """A piece of a streamed completion; joined, the pieces are the completion.

    ``finish_reason`` and ``usage`` come with the last one. ``logprobs``, if asked for, has an entry for each of
    ``token_ids``.
    """

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] | None = None
    finish_reason: str | None = None
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """A finished completion.

    ``token_ids`` are all that were sampled, the end token included; ``text`` ends before the end token or stop string.
    ``finish_reason``: "stop" (an end token or stop string), "length" (max_tokens or the context) or "cancelled".
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: str
    usage: Usage
    logprobs: tuple[TokenLogprob, ...] | None = None
