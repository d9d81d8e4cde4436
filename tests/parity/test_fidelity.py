"""The measures of these tests on made-up models: they must see what is wrong."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
from tests.engine.tiny_gguf import VOCAB_SIZE, tiny_gguf
from tests.parity.fidelity import run_text, undecided_departures
from tests.parity.golden_file import Golden

from lepton_ai import LLM, SamplingParams

NUM_NEW = 8


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LLM]:
    path = tiny_gguf(tmp_path_factory.mktemp("models") / "tiny.gguf")
    with LLM(path, policy="exact", backend="reference") as llm:
        yield llm


@pytest.fixture(scope="module")
def golden(llm: LLM) -> Golden:
    """What the model itself says."""
    rng = np.random.default_rng(0)
    text_ids = rng.integers(0, 256, 40).astype(np.int32)
    logits = np.concatenate(list(llm.logits(text_ids)))
    columns = rng.integers(0, VOCAB_SIZE, (40, 5)).astype(np.int32)
    entries = np.take_along_axis(logits, columns.astype(np.int64), axis=1)
    logsumexp = np.log(np.exp(logits.astype(np.float64)).sum(axis=1))
    prompts = rng.integers(0, 256, (2, 6)).astype(np.int32)
    params = SamplingParams(temperature=0.0, max_tokens=NUM_NEW, ignore_eos=True)
    continuations = np.array([c.token_ids for c in llm.generate(list(prompts), params)], np.int32)
    return Golden(
        digest=llm.model_info.digest,
        text_ids=text_ids,
        columns=columns,
        logits=entries.astype(np.float64),
        logits_f32=entries,
        logsumexp=logsumexp,
        logsumexp_f32=logsumexp.astype(np.float32),
        argmax=logits.argmax(axis=1).astype(np.int32),
        gaps=np.ones(40),
        prompts=prompts,
        continuations=continuations,
        continuation_gaps=np.ones((2, NUM_NEW)),
    )


def test_entries_are_those_of_their_positions_and_columns(llm: LLM, golden: Golden) -> None:
    text = run_text(llm, golden)
    np.testing.assert_allclose(text.logits, golden.logits, rtol=0, atol=1e-5)
    np.testing.assert_allclose(text.logsumexp, golden.logsumexp, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(text.argmax, golden.argmax)


def test_a_model_does_not_depart_from_itself(llm: LLM, golden: Golden) -> None:
    assert undecided_departures(llm, golden) == 0


def changed(golden: Golden, row: int, step: int, gap: float) -> Golden:
    """A golden whose model chose another token at one place."""
    continuations, gaps = golden.continuations.copy(), golden.continuation_gaps.copy()
    continuations[row, step] = (continuations[row, step] + 1) % 256
    gaps[row, step] = gap
    return dataclasses.replace(golden, continuations=continuations, continuation_gaps=gaps)


def test_another_token_is_an_error(llm: LLM, golden: Golden) -> None:
    with pytest.raises(AssertionError, match="prompt 1, token 3"):
        undecided_departures(llm, changed(golden, 1, 3, gap=2e-3))


def test_another_token_is_none_where_two_nearly_tie(llm: LLM, golden: Golden) -> None:
    assert undecided_departures(llm, changed(golden, 1, NUM_NEW - 1, gap=1e-4)) == 1
