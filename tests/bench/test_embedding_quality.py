from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from bench.embedding_quality import correlation, cosines, ranks, spearman
from bench.sentences import ScoredPair


def test_equal_values_share_the_mean_of_their_ranks() -> None:
    assert ranks([30, 10, 20]).tolist() == [3, 1, 2]
    assert ranks([5, 1, 5, 5, 0]).tolist() == [4, 2, 4, 4, 1]
    assert ranks([-0.0, 0.0]).tolist() == [1.5, 1.5]


def test_only_the_order_counts() -> None:
    first = np.array([0.1, 0.5, 0.2, 0.9])
    assert spearman(first, np.exp(40 * first)) == pytest.approx(1.0)
    assert spearman(first, -(first**3)) == pytest.approx(-1.0)


def test_without_ties_it_is_the_formula_of_rank_differences() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.permutation(50), rng.permutation(50)
    expected = 1 - 6 * float(np.sum((first - second) ** 2)) / (50 * (50**2 - 1))
    assert spearman(first, second) == pytest.approx(expected)


def test_with_ties_it_is_the_correlation_of_mean_ranks() -> None:
    # Ranks 1, 2.5, 2.5, 4 and 1, 2, 3, 4: covariance 4.5, variances 4.5 and 5.
    assert spearman([1, 2, 2, 3], [1, 2, 3, 4]) == pytest.approx(4.5 / math.sqrt(4.5 * 5))


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ([1, 2], [1, 2, 3], "two of one length"),
        ([[1, 2]], [[1, 2]], "two of one length"),
        ([1, 1], [1, 2], "two different values"),
        ([], [], "two different values"),
        ([1, math.nan], [1, 2], "expected numbers"),
    ],
)
def test_series_without_an_order_are_an_error(first: list[float], second: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spearman(first, second)


def test_cosines_are_of_rows_of_any_length() -> None:
    first = np.array([[3, 0], [1, 1], [2, 0]], np.float32)
    second = np.array([[5, 0], [0, 4], [-1, 0]], np.float32)
    np.testing.assert_allclose(cosines(first, second), [1, math.sqrt(0.5), -1], rtol=1e-15)


def test_vectors_are_compared_pair_by_pair() -> None:
    angles = {"a": 0.0, "b": 0.1, "c": 0.5, "d": 1.2}
    pairs = [ScoredPair("a", "b", 5.0), ScoredPair("a", "c", 4.0), ScoredPair("a", "d", 1.0)]

    def embed(texts: list[str]) -> npt.NDArray[np.float32]:
        return np.array([(math.cos(angles[text]), math.sin(angles[text])) for text in texts], np.float32)

    assert correlation(embed, pairs) == pytest.approx(1.0)
    assert correlation(embed, [ScoredPair(p.first, p.second, -p.score) for p in pairs]) == pytest.approx(-1.0)
