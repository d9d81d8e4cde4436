from __future__ import annotations

from pathlib import Path

import pytest
from bench.memory import kv_bytes_per_token, largest_layer_bytes
from bench.model_files import describe_file, read_windows
from tests.engine.tiny_gguf import VOCAB_SIZE, tiny_gguf


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gguf(tmp_path_factory.mktemp("models") / "tiny.gguf")


def test_bits_and_digest_of_a_file(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEPTON_HOME", str(tmp_path))
    file = describe_file(path)
    assert (file.vocab_size, file.body_bits, file.head_bits) == (VOCAB_SIZE, 32.0, 32.0)
    assert len(file.digest) == 64


def test_windows_are_the_first_tokens(path: Path) -> None:
    windows = read_windows(path, bytes(range(97, 117)), num_tokens=10, window=4)
    assert windows == [[97, 98, 99, 100], [101, 102, 103, 104], [105, 106]]


def test_memory_of_keys_values_and_layers(path: Path) -> None:
    num_layers, num_kv_heads, head_dim, f16_bytes = 2, 2, 16, 2
    assert kv_bytes_per_token(path) == num_layers * 2 * num_kv_heads * head_dim * f16_bytes
    num_weights = 64 * (64 + 32 + 32 + 64) + 3 * 64 * 96 + 2 * 64
    assert largest_layer_bytes(path) == 4 * num_weights
