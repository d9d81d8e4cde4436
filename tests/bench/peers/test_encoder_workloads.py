from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from bench.peers.encoder_workloads import BATCHES, CLS_ID, FIRST_WORD_ID, RAGGED, SEP_ID, batch
from bench.worker import Embedded, Worker


class HalfSecond(Worker):
    """Takes half a second for whatever it is asked, and remembers it."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def embed(self, sequences: Sequence[Sequence[int]], *, batch_size: int) -> Embedded:
        self.asked.append((len(sequences), batch_size))
        return Embedded(np.zeros((len(sequences), 2), np.float32), 0.5)


def test_a_batch_is_texts_by_tokens() -> None:
    assert (batch(3, 7).name, batch(3, 7).lengths) == ("3x7", (7, 7, 7))
    assert [each.name for each in BATCHES] == ["1x16", "1x128", "32x16", "32x128"]


def test_ragged_texts_are_of_many_lengths() -> None:
    assert (len(RAGGED.lengths), RAGGED.lengths[0], RAGGED.lengths[-1]) == (32, 4, 128)
    assert len(set(RAGGED.lengths)) == 32


def test_texts_are_fresh_words_between_the_tokens_that_bert_adds() -> None:
    rng = np.random.default_rng(0)
    for case in (*BATCHES, RAGGED):
        texts = case.draw(rng, 1010)
        assert [len(text) for text in texts] == list(case.lengths) * case.num_batches
        assert {(text[0], text[-1]) for text in texts} == {(CLS_ID, SEP_ID)}
        words = [word for text in texts for word in text[1:-1]]
        assert min(words) >= FIRST_WORD_ID and max(words) < 1010
        assert case.draw(rng, 1010) != texts


def test_short_batches_are_repeated_until_a_run_has_2048_tokens() -> None:
    assert {case.name: case.num_batches for case in (*BATCHES, RAGGED)} == {
        "1x16": 128,
        "1x128": 16,
        "32x16": 4,
        "32x128": 1,
        "ragged": 1,
    }


def test_the_rate_counts_the_texts_of_all_batches() -> None:
    worker = HalfSecond()
    case = batch(2, 512)
    assert case.run(worker, case.draw(np.random.default_rng(0), 2000)) == 8.0
    assert worker.asked == [(4, 2)]
