"""When requests come."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def poisson_arrivals(rate_per_s: float, seed: int) -> Iterator[float]:
    """Seconds from the start to each arrival of a Poisson process, without end: gaps between arrivals are independent
    and exponential, as those of many users who know nothing of each other."""
    rng = np.random.default_rng(seed)
    at = 0.0
    while True:
        at += float(rng.exponential(1 / rate_per_s))
        yield at
