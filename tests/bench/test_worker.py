from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
import pytest
from bench.worker import Worker, WorkerFailed, idle_share
from tests.bench.fake_worker import VOCAB_SIZE, FakeEngine


@pytest.fixture
def worker() -> Iterator[Worker]:
    # NumPy's own threads spin for a moment after they start, which is not the worker's doing.
    with Worker([sys.executable, "-m", "tests.bench.fake_worker"], {"OPENBLAS_NUM_THREADS": "1"}) as worker:
        yield worker


def test_says_what_runs(worker: Worker) -> None:
    assert worker.info == FakeEngine.info


def test_asks_one_thing_after_another(worker: Worker) -> None:
    assert worker.prefill([1, 2, 3]) == 0.003
    assert worker.decode([[1], [2]], 4) == 0.008
    assert worker.prefill([1]) == 0.001


def test_logits_come_in_pieces(worker: Worker) -> None:
    pieces = list(worker.logits([4, 0, 2]))
    assert [piece.shape for piece in pieces] == [(2, VOCAB_SIZE), (1, VOCAB_SIZE)]
    np.testing.assert_array_equal(np.concatenate(pieces).argmax(axis=1), [4, 0, 2])
    assert worker.prefill([1, 2]) == 0.002


def test_a_worker_that_breaks_is_an_error_and_is_gone(worker: Worker) -> None:
    with pytest.raises(WorkerFailed, match="status 1"):
        worker.decode([], 1)
    with pytest.raises(WorkerFailed):
        worker.prefill([1])


def test_a_worker_that_does_not_start_is_an_error() -> None:
    with pytest.raises(WorkerFailed, match="status 1"):
        Worker([sys.executable, "-c", "raise SystemExit(1)"])


def test_an_idle_worker_uses_no_processor(worker: Worker) -> None:
    assert idle_share(worker, seconds=0.1) < 0.5
