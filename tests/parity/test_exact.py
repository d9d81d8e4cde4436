"""The policy exact against ``transformers``, by goldens."""

from __future__ import annotations

import numpy as np
import pytest
from tests.parity.fidelity import (
    MAX_ERROR_RATIO,
    MAX_UNDECIDED_GAP,
    TextLogits,
    root_mean_square,
    run_text,
    undecided_departures,
)
from tests.parity.golden_file import Golden

from lepton_ai import LLM


@pytest.fixture(scope="module")
def text(exact: LLM, golden: Golden) -> TextLogits:
    """What we say of the golden's text."""
    return run_text(exact, golden)


def test_golden_is_of_this_model(exact: LLM, golden: Golden) -> None:
    assert exact.model_info.digest == golden.digest


def test_logits_are_as_near_to_f64_as_those_of_transformers_in_f32(text: TextLogits, golden: Golden) -> None:
    ours, theirs = text.logits - golden.logits, golden.logits_f32 - golden.logits
    assert root_mean_square(ours) <= MAX_ERROR_RATIO * root_mean_square(theirs)
    assert np.abs(ours).max() <= MAX_ERROR_RATIO * np.abs(theirs).max()


def test_normalisers_are_as_near_to_f64_as_those_of_transformers_in_f32(text: TextLogits, golden: Golden) -> None:
    ours, theirs = text.logsumexp - golden.logsumexp, golden.logsumexp_f32 - golden.logsumexp
    assert root_mean_square(ours) <= MAX_ERROR_RATIO * root_mean_square(theirs)


def test_likeliest_tokens_are_those_of_f64(text: TextLogits, golden: Golden) -> None:
    is_decided = golden.gaps >= MAX_UNDECIDED_GAP
    assert np.mean(is_decided) > 0.9
    np.testing.assert_array_equal(text.argmax[is_decided], golden.argmax[is_decided])


def test_greedy_continuations_are_those_of_f64(exact: LLM, golden: Golden) -> None:
    num_undecided = int(np.sum(golden.continuation_gaps < MAX_UNDECIDED_GAP))
    assert undecided_departures(exact, golden) <= num_undecided
