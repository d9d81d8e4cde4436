from __future__ import annotations

import pytest
from bench.peers.pairs import PairedRates, measure_pairs

from bench.peers import pairs


def test_ratio_is_the_median_of_the_pairs() -> None:
    rates = PairedRates((10.0, 40.0, 30.0), (10.0, 10.0, 20.0))
    assert rates.our_median == 30.0
    assert rates.their_median == 10.0
    assert rates.ratio == 1.5
    assert rates.ratio_range == (1.0, 4.0)


def test_the_interval_holds_the_median_and_is_the_same_each_time() -> None:
    ours = (10.0, 11.0, 12.0, 13.0, 14.0, 15.0, 16.0, 17.0, 100.0)
    rates = PairedRates(ours, (10.0,) * 9)
    low, high = rates.interval
    assert 1.1 <= low < rates.ratio < high <= 1.7
    assert rates.interval == PairedRates(ours, (10.0,) * 9).interval
    assert PairedRates((2.0,) * 9, (1.0,) * 9).interval == (2.0, 2.0)


@pytest.mark.parametrize(("target", "is_reached"), [(2.0, True), (2.0 / 0.95, True), (2.11, False)])
def test_a_target_is_reached_within_a_twentieth_of_the_lower_bound(target: float, *, is_reached: bool) -> None:
    assert PairedRates((2.0,) * 3 + (9.0,), (1.0,) * 4).interval[0] == 2.0
    assert PairedRates((2.0,) * 3 + (9.0,), (1.0,) * 4).reaches(target) is is_reached


@pytest.mark.parametrize(("ours", "theirs"), [((), ()), ((1.0,), ()), ((1.0,), (1.0, 2.0))])
def test_rates_come_in_pairs(ours: tuple[float, ...], theirs: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="expected pairs"):
        PairedRates(ours, theirs)


def test_runs_take_turns_after_one_of_each_to_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "SETTLE_S", 0.0)
    calls: list[tuple[str, int]] = []

    def run(name: str, rate: float, pair: int) -> float:
        calls.append((name, pair))
        return rate + pair

    rates = measure_pairs(lambda pair: run("a", 2.0, pair), lambda pair: run("b", 1.0, pair), num_pairs=2)
    assert calls == [("a", -1), ("b", -1), ("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    assert rates == PairedRates((2.0, 3.0), (1.0, 2.0))
