from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.peers.workers import memory
from bench.peers.workers.memory import MemoryEngine, step_bytes
from tests.engine.tiny_gguf import tiny_gguf

from lepton_ai.cli.kernel_rates import Bandwidth

BYTES_PER_KV_TOKEN = 2 * 2 * 2 * 16 * 2
"""Keys and values of two layers, two heads of 16 in f16."""


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryEngine]:
    monkeypatch.setenv("LEPTON_HOME", str(tmp_path / "home"))
    engine = MemoryEngine(tiny_gguf(tmp_path / "tiny.gguf"), num_threads=1, kv_dtype="f16")
    yield engine
    engine._loaded.close()


def test_a_step_reads_weights_once_and_the_keys_of_each_sequence(engine: MemoryEngine) -> None:
    ops = engine._ops
    # A key more is read, wherever it is; of a sequence more, its keys are, and those that it writes, but no weights.
    assert step_bytes(ops, [11]) - step_bytes(ops, [10]) == BYTES_PER_KV_TOKEN
    both = step_bytes(ops, [10, 20]) - step_bytes(ops, [10])
    assert 20 * BYTES_PER_KV_TOKEN < both < 24 * BYTES_PER_KV_TOKEN


def test_memory_decodes_at_the_bandwidth_of_the_moment(engine: MemoryEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = [step_bytes(engine._ops, [4]), step_bytes(engine._ops, [5])]
    asked: list[int] = []

    def measured(device: object, num_bytes: int) -> Bandwidth:
        asked.append(num_bytes)
        return Bandwidth(memory_bytes_per_s=1000.0, cache_bytes_per_s=1e9)

    monkeypatch.setattr(memory, "measure_bandwidth", measured)
    assert engine.decode([[1, 2, 3]], 2) == sum(steps) / 1000
    assert asked == [steps[1]]
    with pytest.raises(NotImplementedError):
        engine.prefill([1])
