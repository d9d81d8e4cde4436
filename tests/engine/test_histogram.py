from __future__ import annotations

import random

from lepton_ai.engine.histogram import Distribution, Histogram


def test_a_bound_belongs_to_what_is_below_it() -> None:
    histogram = Histogram([1, 2.5, 10])
    for value in (0.0, 1.0, 1.1, 2.5, 2.6, 10.0, 10.1, 1e9):
        histogram.observe(value)
    made = histogram.snapshot()
    assert made == Distribution((1, 2.5, 10), (2, 2, 2, 2), 1e9 + 27.3)
    assert made.count == 8


def test_a_snapshot_stays_as_it_is() -> None:
    histogram = Histogram([1])
    before = histogram.snapshot()
    histogram.observe(1)
    assert (before.counts, before.total, before.count) == ((0, 0), 0.0, 0)
    assert histogram.snapshot().counts == (1, 0)


def test_counts_add_up() -> None:
    rng = random.Random(0)
    bounds = sorted(rng.uniform(0, 100) for _ in range(20))
    histogram, values = Histogram(bounds), [rng.uniform(-5, 120) for _ in range(2000)]
    for value in values:
        histogram.observe(value)
    made = histogram.snapshot()
    for index, bound in enumerate(bounds):
        assert sum(made.counts[: index + 1]) == sum(value <= bound for value in values)
    assert made.count == len(values)
