from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from bench.worker import Worker, WorkerFailed, idle_share, require_idle
from tests.bench.fake_encoder_worker import FakeEncoder
from tests.bench.fake_worker import NEVER, VOCAB_SIZE, FakeEngine

MORE_THAN_A_PIPE_HOLDS = 1_000_000


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


def test_a_worker_that_gives_no_answer_is_ended(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_timeout_s", 0.1)
    for _ in range(2):
        with pytest.raises(WorkerFailed, match=r"fake_worker: gave no answer within 0\.1 s$"):
            worker.decode([[1]], NEVER)
    assert not Path(f"/proc/{worker.pid}").exists()


def test_a_worker_that_reads_no_request_is_ended(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_timeout_s", 0.1)
    os.kill(worker.pid, signal.SIGSTOP)
    with pytest.raises(WorkerFailed, match="gave no answer"):
        worker.prefill([1] * MORE_THAN_A_PIPE_HOLDS)


def test_a_worker_that_never_begins_is_ended() -> None:
    with pytest.raises(WorkerFailed, match=r"gave no answer within 0\.1 s"):
        Worker([sys.executable, "-c", "import time; time.sleep(600)"], timeout_s=0.1)


def test_an_idle_worker_uses_no_processor(worker: Worker) -> None:
    assert idle_share(worker, seconds=0.1) < 0.5


class Spinning(Worker):
    """One that says it has used 0.3 seconds more each time it is asked, which is as long as it is watched."""

    num_asked = 0

    def cpu_seconds(self) -> float:
        self.num_asked += 1
        return 0.3 * self.num_asked


def test_a_worker_that_spins_while_it_waits_is_an_error() -> None:
    message = r"fake uses 1\.00 cores while idle"
    with (
        Spinning([sys.executable, "-m", "tests.bench.fake_worker"]) as worker,
        pytest.raises(RuntimeError, match=message),
    ):
        require_idle([worker])


@pytest.fixture
def encoder() -> Iterator[Worker]:
    with Worker([sys.executable, "-m", "tests.bench.fake_encoder_worker"]) as worker:
        yield worker


def test_an_encoder_embeds_batches_in_order_once_all_are_prepared(encoder: Worker) -> None:
    assert encoder.info == FakeEncoder.info
    embedded = encoder.embed([[1], [1, 2], [1, 2, 3]], batch_size=2)
    np.testing.assert_array_equal(embedded.rows, [[1, 2, 2, 0], [2, 2, 2, 0], [3, 1, 2, 1]])
    assert embedded.seconds > 0


def test_an_encoder_that_breaks_is_an_error(encoder: Worker) -> None:
    with pytest.raises(WorkerFailed, match="status 1"):
        encoder.embed([[1], []], batch_size=2)


def test_a_worker_that_breaks_says_why_each_time_it_is_asked(encoder: Worker) -> None:
    for _ in range(2):
        with pytest.raises(WorkerFailed, match=r"status 1: ValueError: op: expected embed, got 'prefill'$"):
            encoder.prefill([1])
