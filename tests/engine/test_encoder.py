"""Batches of whole sequences: how they are packed, and that a neighbour changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.engine.published import BERT_CONTEXT, BERT_HIDDEN, BERT_WORDS, SENTENCE_FILES, published_bert, write_files

from lepton_ai.backends.cpu.backend import CpuBackend
from lepton_ai.backends.cpu.device import CpuDevice
from lepton_ai.config import Policy
from lepton_ai.engine.encoder import Encoder, EncoderInput, make_encoder, pack_batches, sentence_defaults, usual_heads
from lepton_ai.engine.load_options import LoadOptions
from lepton_ai.errors import InvalidRequest, WeightMismatch
from lepton_ai.graph.attrs import PoolMode
from lepton_ai.models.encoder import EncoderHead, EncoderModel
from lepton_ai.models.encoder_config import Pooling
from lepton_ai.models.registry import read_model
from lepton_ai.weights.checkpoint import open_checkpoint
from lepton_ai.weights.folder import CheckpointFolder

MEAN = Pooling(PoolMode.MEAN, is_normalized=True)


@given(st.lists(st.integers(1, 64), max_size=60), st.integers(64, 200), st.integers(1, 9))
def test_batches_fit_a_step_and_leave_nothing_out(lengths: list[int], max_tokens: int, max_seqs: int) -> None:
    batches = list(pack_batches(lengths, max_tokens, max_seqs))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert 1 <= len(batch) <= max_seqs and sum(lengths[i] for i in batch) <= max_tokens
    order = [lengths[i] for batch in batches for i in batch]
    assert order == sorted(lengths, reverse=True)
    for batch, (first, *_) in pairwise(batches):
        assert len(batch) == max_seqs or sum(lengths[i] for i in batch) + lengths[first] > max_tokens, "room was left"


def test_ties_keep_their_order() -> None:
    assert list(pack_batches([3, 5, 3, 5], 8, 4)) == [[1], [3, 0], [2]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CheckpointFolder]:
    path = write_files(tmp_path_factory.mktemp("bert"), published_bert() | SENTENCE_FILES)
    with open_checkpoint(path) as checkpoint:
        assert isinstance(checkpoint, CheckpointFolder)
        yield checkpoint


def make(checkpoint: CheckpointFolder, options: LoadOptions | None = None) -> Encoder:
    model, store = read_model(checkpoint)
    assert isinstance(model, EncoderModel)
    backend = CpuBackend(CpuDevice(num_threads=2))
    return make_encoder(model, store, backend, options or LoadOptions(policy=Policy.EXACT), checkpoint)


def random_inputs(count: int, seed: int = 1) -> list[EncoderInput]:
    rng = np.random.default_rng(seed)
    made = []
    for index, size in enumerate(rng.integers(1, BERT_CONTEXT + 1, count)):
        types = rng.integers(0, 2, size).astype(np.int32) if index % 3 == 0 else None
        made.append(EncoderInput(rng.integers(0, len(BERT_WORDS), size).astype(np.int32), types))
    return made


@pytest.mark.parametrize("policy", list(Policy))
def test_a_sequence_has_the_bits_it_has_alone(folder: CheckpointFolder, policy: Policy) -> None:
    encoder, inputs = make(folder, LoadOptions(policy=policy, max_tokens_per_step=100)), random_inputs(40)
    heads: tuple[EncoderHead, ...] = (MEAN, "hidden_states", "pooler_output")
    for each, (vector, rows, pooled) in zip(inputs, encoder.run(heads, inputs), strict=True):
        assert vector.shape == pooled.shape == (BERT_HIDDEN,) and rows.shape == (len(each.ids), BERT_HIDDEN)
        ((vector_alone, rows_alone, pooled_alone),) = encoder.run(heads, [each])
        assert np.array_equal(vector, vector_alone) and np.array_equal(rows, rows_alone)
        assert np.array_equal(pooled, pooled_alone)


def test_outputs_agree_with_each_other(folder: CheckpointFolder) -> None:
    (first, *_) = make(folder).run(
        (MEAN, "hidden_states", Pooling(PoolMode.CLS, is_normalized=False)), random_inputs(1)
    )
    vector, rows, cls = first
    np.testing.assert_allclose(vector, rows.mean(0) / np.linalg.norm(rows.mean(0)), rtol=0, atol=1e-6)
    assert np.array_equal(cls, rows[0])


def test_token_types_count(folder: CheckpointFolder) -> None:
    ids = np.arange(5, dtype=np.int32)
    plain, zeros, ones = (EncoderInput(ids, t) for t in (None, np.zeros(5, np.int32), np.ones(5, np.int32)))
    rows = [row for (row,) in make(folder).run((MEAN,), [plain, zeros, ones])]
    assert np.array_equal(rows[0], rows[1]) and not np.allclose(rows[0], rows[2], atol=1e-2)


def test_what_the_folder_declares(folder: CheckpointFolder) -> None:
    model, _ = read_model(folder)
    assert isinstance(model, EncoderModel)
    defaults = sentence_defaults(model, folder)
    assert defaults.pooling == MEAN and defaults.max_length == 24
    assert usual_heads(model, defaults.pooling) == (MEAN,)
    assert usual_heads(model, None) == ("hidden_states",)


def test_a_checkpoint_without_a_pooler_has_none_to_give(tmp_path: Path) -> None:
    files = published_bert(head="ForTokenClassification", labels=3)
    with open_checkpoint(write_files(tmp_path, files)) as checkpoint:
        assert isinstance(checkpoint, CheckpointFolder)
        encoder = make(checkpoint)
        with pytest.raises(WeightMismatch, match=r"missing cls\.weight"):
            encoder.prepare(("pooler_output",))


def test_a_context_beyond_the_model_is_refused(folder: CheckpointFolder) -> None:
    with pytest.raises(InvalidRequest, match="max_model_len: expected 1 to 48, the model's context, got 49"):
        make(folder, LoadOptions(max_model_len=BERT_CONTEXT + 1))


def test_a_closed_encoder_refuses(folder: CheckpointFolder) -> None:
    encoder = make(folder)
    encoder.close()
    with pytest.raises(InvalidRequest, match="closed"):
        encoder.run((MEAN,), random_inputs(1))
