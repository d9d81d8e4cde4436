"""When a trial counts as won: paired ratios, round by round: a machine's speed may change by half between minutes."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb

MIN_ROUNDS = 7
"""Fewer rounds can win nothing: even all of them won are too likely by chance."""

_MIN_GAIN = 0.02
_MAX_CHANCE = 0.01
_MAX_CHANCE_OF_LOSS = 0.1

Timings = Mapping[str, Sequence[float]]
"""Seconds of a step by load, one for each round."""


@dataclass(frozen=True, slots=True)
class LoadRatio:
    """A candidate's seconds over those of what it is compared with, in the same rounds: below 1 is faster."""

    seconds: float
    ratio: float
    num_won: int
    num_lost: int

    @property
    def is_won(self) -> bool:
        """Faster by more than is worth nothing, in so many rounds that chance is out of the question."""
        return self.ratio <= 1 - _MIN_GAIN and chance(self.num_won, self.num_lost) <= _MAX_CHANCE

    @property
    def is_lost(self) -> bool:
        """Slower more often than chance easily makes it."""
        return self.ratio > 1 and chance(self.num_lost, self.num_won) <= _MAX_CHANCE_OF_LOSS


@dataclass(frozen=True, slots=True)
class Comparison:
    """A candidate against what is in force, by load."""

    loads: Mapping[str, LoadRatio]

    @property
    def overall(self) -> float:
        """The geometric mean of the ratios."""
        return statistics.geometric_mean(load.ratio for load in self.loads.values())

    @property
    def is_won(self) -> bool:
        """Whether it is clearly faster with some load, and with none slower."""
        loads = self.loads.values()
        return any(load.is_won for load in loads) and not any(load.is_lost for load in loads)


def chance(num_for: int, num_against: int) -> float:
    """How likely at least ``num_for`` of so many tosses of a coin are (sign test, one side)."""
    total = num_for + num_against
    ways = sum(comb(total, count) for count in range(num_for, total + 1))
    return ways / float(2**total)


def compare(candidate: Timings, in_force: Timings) -> Comparison:
    """From the seconds of both, which were measured in the same rounds."""
    return Comparison({load: _ratio(seconds, in_force[load]) for load, seconds in candidate.items()})


def _ratio(seconds: Sequence[float], others: Sequence[float]) -> LoadRatio:
    ratios = [mine / theirs for mine, theirs in zip(seconds, others, strict=True)]
    return LoadRatio(
        seconds=statistics.median(seconds),
        ratio=statistics.median(ratios),
        num_won=sum(ratio < 1 for ratio in ratios),
        num_lost=sum(ratio > 1 for ratio in ratios),
    )


def best(comparisons: Sequence[Comparison]) -> int | None:
    """The index of the fastest of those that won clearly; None if none did."""
    won = [index for index, each in enumerate(comparisons) if each.is_won]
    return min(won, key=lambda index: comparisons[index].overall, default=None)
