from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lepton_ai.engine.scheduling.token_budget import allot


@pytest.mark.parametrize(
    ("missing", "budget", "expected"),
    [
        ([], 8, []),
        ([1, 1, 1], 8, [1, 1, 1]),
        ([1, 1, 1], 2, [1, 1, 0]),
        ([100], 64, [64]),
        ([1, 100, 1], 10, [1, 8, 1]),
        # Half for the first prompt, the other half for the shortest of the others.
        ([100, 40, 10], 32, [16, 6, 10]),
        ([100, 4], 32, [28, 4]),
        # The first needs less than its half.
        ([5, 100, 100], 32, [5, 27, 0]),
        # The first rank always gets on, however many decode.
        ([9, 1, 1, 1], 2, [1, 1, 0, 0]),
        ([9, 1], 1, [1, 0]),
    ],
)
def test_allot(missing: list[int], budget: int, expected: list[int]) -> None:
    assert allot(missing, budget) == expected


@given(st.lists(st.integers(1, 200), max_size=20), st.integers(1, 64))
def test_a_budget_is_spent_and_never_exceeded(missing: list[int], budget: int) -> None:
    counts = allot(missing, budget)
    assert all(0 <= count <= lacks for count, lacks in zip(counts, missing, strict=True))
    assert sum(counts) == min(budget, sum(missing))
    assert not missing or counts[0] >= 1
