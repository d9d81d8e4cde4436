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
    """Run tokens ``num_computed_tokens ... + num_tokens - 1`` of a request.

    ``is_sampled``: they reach its last token, and the next one is chosen. ``scored`` are positions among them after
    which a known token comes whose log-probability is wanted. The choice takes a row, and so does each of these.
    """

    request: Request
    num_tokens: int
    is_sampled: bool
    scored: range = range(0)


class StepPlan(NamedTuple):
    """One ragged step, highest rank first. ``copies`` are made before it, in order. ``preempted`` made room for it.

    Rows of sampled tokens come first, then those of scored ones, both in the order of the sequences.
    """

    sequences: tuple[ScheduledSequence, ...]
    copies: tuple[BlockCopy, ...] = ()
    preempted: tuple[Request, ...] = ()


class TokenOutput(NamedTuple):
    """A token that a request got in a step, with its log-probability if the request asked for that.

    ``token_id`` is None where a request that asked for no token has ended with its prompt.
    """

    request: Request
    token_id: int | None
    logprob: TokenLogprob | None
    finish_reason: FinishReason | None
