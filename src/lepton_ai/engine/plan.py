"""What passes between the three lines of a step."""

from __future__ import annotations

from dataclasses import dataclass

from lepton_ai.engine.request import FinishReason, Request


@dataclass(frozen=True, slots=True)
class ScheduledSequence:
    """Run tokens ``num_computed_tokens ... + num_tokens - 1`` of a request; ``has_row``: they reach its last token,
    so the next one is sampled."""

    request: Request
    num_tokens: int
    has_row: bool


@dataclass(frozen=True, slots=True)
class StepPlan:
    """One ragged step, oldest request first."""

    sequences: tuple[ScheduledSequence, ...]


@dataclass(frozen=True, slots=True)
class Alternative:
    """A token that could have been chosen."""

    token_id: int
    logprob: float


@dataclass(frozen=True, slots=True)
class TokenOutput:
    """A token that a request got in a step. ``logprob`` is natural, under the model's unmodified distribution."""

    request: Request
    token_id: int
    logprob: float
    alternatives: tuple[Alternative, ...]
    finish_reason: FinishReason | None
