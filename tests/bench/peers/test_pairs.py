from __future__ import annotations

import pytest
from bench.pairs import PairedRates, measure_pairs

from bench import pairs


def test_ratio_is_the_median_of_the_pairs() -> None:
    rates = PairedRates((10.0, 40.0, 30.0), (10.0, 10.0, 20.0))
    assert rates.our_median == 30.0
    assert rates.their_median == 10.0
    assert rates.ratio == 1.5
    assert rates.ratio_range == (1.0, 4.0)


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
