from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from lepton_ai.backends.base import Float32Array, SamplingInputs
from lepton_ai.backends.reference.sampling import candidates, penalise, sample

Floats = npt.NDArray[np.float32]


def inputs(
    num_rows: int = 1,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    penalties: tuple[float, float, float] = (1.0, 0.0, 0.0),
    history: Sequence[tuple[Sequence[int], Sequence[int]]] = (),
    num_logprobs: int = 0,
    seed: int = 0,
) -> SamplingInputs:
    """The same settings for every row; ``history`` is (prompt, output) of each; draws count up from 0."""

    def floats(value: float) -> Floats:
        return np.full(num_rows, value, np.float32)

    pairs = list(history) or [((), ())] * num_rows
    ids = [[*prompt, *output] for prompt, output in pairs]
    return SamplingInputs(
        temperature=floats(temperature),
        top_k=np.full(num_rows, top_k, np.int32),
        top_p=floats(top_p),
        min_p=floats(min_p),
        repetition_penalty=floats(penalties[0]),
        presence_penalty=floats(penalties[1]),
        frequency_penalty=floats(penalties[2]),
        seeds=np.full(num_rows, seed, np.uint64),
        draws=np.arange(num_rows, dtype=np.uint64),
        num_logprobs=np.full(num_rows, num_logprobs, np.int32),
        history=np.array([i for row in ids for i in row], np.int32),
        history_offsets=np.cumsum([0, *(len(row) for row in ids)]).astype(np.int32),
        num_prompt_tokens=np.array([len(prompt) for prompt, _ in pairs], np.int32),
        bias_ids=np.zeros(0, np.int32),
        bias_values=np.zeros(0, np.float32),
        bias_offsets=np.zeros(num_rows + 1, np.int32),
        mask_rows=np.full(num_rows, -1, np.int32),
        token_masks=np.zeros((0, 0), np.int32),
        forced_ids=np.full(num_rows, -1, np.int32),
    )


def row(*values: float) -> Float32Array:
    return np.array([values], np.float32)


def kept(logits: Float32Array, **settings: float) -> list[int]:
    options = inputs(**settings)  # type: ignore[arg-type]
    return [int(i) for i in candidates(logits[0], options, 0).token_ids]


PROBABILITIES = np.array([[0.1, 0.4, 0.2, 0.25, 0.05]])
LOGITS = np.log(PROBABILITIES).astype(np.float32)


def test_greedy_takes_the_largest_and_the_lowest_id_of_ties() -> None:
    assert sample(row(1, 3, 2, 3), inputs(temperature=0)).token_ids.tolist() == [1]


def test_greedy_ignores_truncation_and_seed() -> None:
    options = inputs(temperature=0, top_k=1, top_p=0.1, min_p=0.9, seed=99)
    assert sample(LOGITS, options).token_ids.tolist() == [1]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [1, 3, 2, 0, 4]),
        ({"top_k": 2}, [1, 3]),
        ({"top_k": 9}, [1, 3, 2, 0, 4]),
        ({"top_p": 0.39}, [1]),
        ({"top_p": 0.41}, [1, 3]),
        ({"top_p": 0.66}, [1, 3, 2]),
        ({"top_p": 0.0}, [1]),
        ({"min_p": 0.45}, [1, 3, 2]),
        ({"min_p": 0.55}, [1, 3]),
        ({"min_p": 1.0}, [1]),
        ({"top_k": 2, "top_p": 0.61}, [1]),  # 0.4 of the 0.65 that top_k leaves is 0.615
        ({"top_k": 2, "top_p": 0.62}, [1, 3]),
        ({"top_p": 0.66, "min_p": 0.55}, [1, 3]),
    ],
)
def test_truncation(settings: dict[str, float], expected: list[int]) -> None:
    assert kept(LOGITS, **settings) == expected


def test_ties_are_ordered_by_id_when_truncated() -> None:
    assert kept(row(1, 2, 2, 2, 0), top_k=2) == [1, 2]


def test_temperature_sharpens_and_flattens() -> None:
    flat = candidates(LOGITS[0], inputs(temperature=2.0), 0)
    np.testing.assert_allclose(np.diff(flat.cumulative, prepend=0), np.sqrt([1, 0.625, 0.5, 0.25, 0.125]), rtol=1e-6)
    assert kept(LOGITS, temperature=0.1, top_p=0.99) == [1]


def test_draws_follow_the_distribution() -> None:
    count = 8000
    drawn = sample(np.repeat(LOGITS, count, axis=0), inputs(count, seed=5)).token_ids
    expected = PROBABILITIES[0] * count
    # Chi-squared with 4 degrees of freedom stays below 18.5 with probability 0.999.
    assert ((np.bincount(drawn, minlength=5) - expected) ** 2 / expected).sum() < 18.5


def test_draws_cover_only_kept_ids_and_use_the_inverse_cdf() -> None:
    options = candidates(LOGITS[0], inputs(top_k=2), 0)
    assert [options.draw(u) for u in (0.0, 0.615, 0.616, 1 - 2.0**-24)] == [1, 1, 3, 3]


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    logits = np.random.default_rng(0).standard_normal((6, 40)).astype(np.float32)
    together = sample(logits, inputs(6, seed=3)).token_ids
    alone = inputs(6, seed=3)
    for index in range(6):
        swapped = np.flip(logits, axis=0).copy()
        swapped[index] = logits[index]
        assert sample(swapped, alone).token_ids[index] == together[index]


def test_repetition_counts_prompt_and_output_once_each() -> None:
    options = inputs(penalties=(2.0, 0.0, 0.0), history=[((0, 1, 0), (1, 2))])
    assert penalise(row(4, -4, 3, 5)[0], options, 0).tolist() == [2, -8, 1.5, 5]


def test_presence_and_frequency_count_output_alone() -> None:
    options = inputs(penalties=(1.0, 0.5, 0.25), history=[((0, 3), (1, 1, 2))])
    assert penalise(row(1, 1, 1, 1)[0], options, 0).tolist() == [1, 0, 0.25, 1]


def test_history_is_read_row_by_row() -> None:
    options = inputs(2, temperature=0, penalties=(1.0, 9.0, 0.0), history=[((), (1,)), ((1,), (0,))])
    assert sample(np.array([[1, 2, 0], [1, 2, 0]], np.float32), options).token_ids.tolist() == [0, 1]


def test_logprobs_are_those_of_unmodified_logits() -> None:
    options = inputs(temperature=0, penalties=(1.0, 5.0, 0.0), history=[((), (1,))], num_logprobs=3)
    out = sample(LOGITS, options)
    assert out.token_ids.tolist() == [3]
    np.testing.assert_allclose(out.logprobs, np.log([0.25]), rtol=1e-6)
    assert out.top_ids.tolist() == [[1, 3, 2]]
    np.testing.assert_allclose(out.top_logprobs, np.log([[0.4, 0.25, 0.2]]), rtol=1e-6)


def test_a_forced_token_is_scored_and_not_chosen() -> None:
    logits = np.log(np.array([[0.4, 0.25, 0.2, 0.15]] * 3, np.float32))
    settings = replace(inputs(3, temperature=0.0, num_logprobs=1), forced_ids=np.array([2, -1, 3], np.int32))
    out = sample(logits, settings)
    assert out.token_ids.tolist() == [2, 0, 3]
    np.testing.assert_allclose(out.logprobs, np.log([0.2, 0.4, 0.15]), rtol=1e-6)
    assert out.top_ids.tolist() == [[0]] * 3


def test_alternatives_of_ties_and_at_most_the_vocabulary() -> None:
    out = sample(row(1, 1, 1), inputs(num_logprobs=20))
    assert out.top_ids.tolist() == [[0, 1, 2]]


def test_masked_and_infinite_logits() -> None:
    masked = row(-np.inf, 0, np.nan, -np.inf)
    assert {sample(masked, inputs(seed=s)).token_ids[0] for s in range(20)} == {1}
    assert sample(row(0, np.inf, 1), inputs()).token_ids.tolist() == [1]
    assert sample(row(0, 1e38, -3e38), inputs(temperature=1e-6)).token_ids.tolist() == [1]
