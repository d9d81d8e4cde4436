"""What passes between the three lines of a step."""

from __future__ import annotations

from typing import NamedTuple

from lepton_ai.engine.outputs import TokenLogprob
from lepton_ai.engine.request import FinishReason, Request


class BlockCopy(NamedTuple):
    """Write the content of block ``source`` of a KV group over block ``target``."""

    group: int
    source: int
    target: int


class ScheduledSequence(NamedTuple):
    """Run tokens ``num_computed_tokens ... + num_tokens - 1`` of a request; ``has_row``: they reach its last token,
    so the next one is sampled."""

    request: Request
    num_tokens: int
    has_row: bool


class StepPlan(NamedTuple):
    """One ragged step, highest rank first. ``copies`` are made before it, in order."""

    sequences: tuple[ScheduledSequence, ...]
    copies: tuple[BlockCopy, ...] = ()


class TokenOutput(NamedTuple):
    """A token that a request got in a step, with its log-probability if the request asked for that."""

    request: Request
    token_id: int
    logprob: TokenLogprob | None
    finish_reason: FinishReason | None
