"""Paired measurements: A B A B ..., so that what disturbs the machine disturbs both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

_NUM_RESAMPLES, _CONFIDENCE = 10_000, 0.95
_TOLERATED = 0.95
"""Of a ratio that is to be reached."""

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

    @property
    def interval(self) -> tuple[float, float]:
        """What holds the median ratio with 95 %: the bootstrap's percentiles, of pairs drawn the same way each time."""
        ratios = np.array(self._ratios())
        medians = np.median(np.random.default_rng(0).choice(ratios, (_NUM_RESAMPLES, len(ratios))), axis=1)
        low, high = np.quantile(medians, ((1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2))
        return float(low), float(high)

    def reaches(self, ratio: float) -> bool:
        """Whether the interval begins at ``ratio``, or so little below it that another run may tell otherwise."""
        return self.interval[0] >= _TOLERATED * ratio

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
