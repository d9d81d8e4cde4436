"""Paired measurements: A B A B ..., so that what disturbs the machine disturbs both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

SETTLE_S = 0.1
"""Pause before each run: threads of the engine that ran before may spin for a few milliseconds before they sleep."""


@dataclass(frozen=True, slots=True)
class PairedRates:
    """What both engines do in a second, pair by pair: tokens, say, or sequences."""

    ours: tuple[float, ...]
    theirs: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.ours or len(self.ours) != len(self.theirs):
            raise ValueError(f"rates: expected pairs, got {len(self.ours)} and {len(self.theirs)} values")

    @property
    def our_median(self) -> float:
        """Our median rate."""
        return statistics.median(self.ours)

    @property
    def their_median(self) -> float:
        """The other's median rate."""
        return statistics.median(self.theirs)

    @property
    def ratio(self) -> float:
        """Median over pairs of our rate by theirs: less disturbed than the ratio of the medians."""
        return statistics.median(self._ratios())

    @property
    def ratio_range(self) -> tuple[float, float]:
        """The least and the greatest ratio of a pair."""
        return min(self._ratios()), max(self._ratios())

    def _ratios(self) -> list[float]:
        return [a / b for a, b in zip(self.ours, self.theirs, strict=True)]


def measure_pairs(ours: Callable[[int], float], theirs: Callable[[int], float], *, num_pairs: int) -> PairedRates:
    """Call both in turn with the number of the pair, after one call of each that is not counted (pair -1)."""
    for run in (ours, theirs):
        run(-1)
    pairs = [(_settled(ours, pair), _settled(theirs, pair)) for pair in range(num_pairs)]
    return PairedRates(tuple(a for a, _ in pairs), tuple(b for _, b in pairs))


def _settled(run: Callable[[int], float], pair: int) -> float:
    time.sleep(SETTLE_S)
    return run(pair)
