"""What passes between the three lines of a step."""

from __future__ import annotations

from typing import NamedTuple

from lepton_ai.engine.request import FinishReason, Request


class ScheduledSequence(NamedTuple):
    """Run tokens ``num_computed_tokens ... + num_tokens - 1`` of a request; ``has_row``: they reach its last token,
    so the next one is sampled."""

    request: Request
    num_tokens: int
    has_row: bool


class StepPlan(NamedTuple):
    """One ragged step, oldest request first."""

    sequences: tuple[ScheduledSequence, ...]


class Alternative(NamedTuple):
    """A token that could have been chosen."""

    token_id: int
    logprob: float


class TokenOutput(NamedTuple):
    """A token that a request got in a step. ``logprob`` is natural, under the model's unmodified distribution."""

    request: Request
    token_id: int
    logprob: float
    alternatives: tuple[Alternative, ...]
    finish_reason: FinishReason | None
