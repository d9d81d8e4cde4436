"""A candidate wins only when that is clear."""

from __future__ import annotations

import numpy as np
import pytest

from lepton_ai.cli.tune.choice import MIN_ROUNDS, Comparison, LoadRatio, best, chance, compare

SLOW = [1.0, 1.4, 0.7, 1.1, 0.9, 1.6, 0.8, 1.0, 1.2, 0.9, 1.5, 0.6, 1.0, 1.1, 0.9]
"""A machine whose speed varies by more than any candidate gains."""


def _against(factors: list[float]) -> Comparison:
    return compare({"load": [s * f for s, f in zip(SLOW, factors, strict=True)]}, {"load": SLOW})


def test_chances() -> None:
    assert chance(15, 0) == 2**-15
    assert chance(13, 2) == pytest.approx((1 + 15 + 105) / 2**15)
    assert chance(0, 15) == 1.0
    assert chance(0, 0) == 1.0


def test_fewer_rounds_can_win_nothing() -> None:
    assert chance(MIN_ROUNDS, 0) <= 0.01 < chance(MIN_ROUNDS - 1, 0)


def test_a_clear_win_on_a_noisy_machine() -> None:
    found = _against([0.9] * 15)
    assert found.is_won and found.overall == pytest.approx(0.9)
    assert found.loads["load"].num_won == 15


@pytest.mark.parametrize(
    "factors",
    [
        [1.0] * 15,  # a tie
        [0.99] * 15,  # always faster, by what is worth nothing
        [0.8] * 11 + [1.2] * 4,  # often faster
        [0.9, 1.1] * 7 + [0.9],
        [1.1] * 15,
    ],
)
def test_no_win(factors: list[float]) -> None:
    assert not _against(factors).is_won


def test_what_another_load_loses() -> None:
    won, even, lost = LoadRatio(1.0, 0.9, 15, 0), LoadRatio(1.0, 1.01, 7, 8), LoadRatio(1.0, 1.02, 3, 12)
    assert Comparison({"a": won, "b": even}).is_won
    assert not Comparison({"a": won, "b": lost}).is_won
    assert not Comparison({"a": even, "b": even}).is_won


def test_the_fastest_of_the_winners() -> None:
    candidates = [_against([f] * 15) for f in (1.0, 0.9, 0.8, 0.85)]
    assert best(candidates) == 2
    assert best(candidates[:1]) is None
    assert best([]) is None
    fastest_by_chance = _against([0.5] * 10 + [1.1] * 5)
    assert best([fastest_by_chance, candidates[1]]) == 1


def test_noise_alone_seldom_wins() -> None:
    rng = np.random.default_rng(0)
    wins = 0
    for _ in range(1000):
        mine, others = (np.exp(rng.normal(0, 0.1, 15)).tolist() for _ in range(2))
        wins += compare({"load": mine}, {"load": others}).is_won
    assert wins <= 10
