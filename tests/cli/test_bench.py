from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.conftest import Lepton
from tests.engine.tiny_gguf import tiny_gguf


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_gguf(tmp_path_factory.mktemp("model") / "tiny.gguf"))


@pytest.mark.parametrize("concurrency", [1, 3])
def test_figures(lepton: Lepton, model: str, concurrency: int) -> None:
    options = f"--prompt-tokens 20 --output-tokens 30 --repeat 2 --threads 1 --concurrency {concurrency} --json".split()
    value = lepton("bench", model, *options).json()
    assert (value["model"], value["concurrency"], value["num_threads"]) == (model, concurrency, 1)
    for name in ("prefill_tokens_per_s", "decode_tokens_per_s", "time_to_first_token_s"):
        figure = value[name]
        assert isinstance(figure, float) and figure > 0
    memory = value["peak_memory_bytes"]
    assert isinstance(memory, int) and memory > 1 << 20
    assert isinstance(value["isa"], str)


def test_a_single_token_has_no_decode_rate(lepton: Lepton, model: str) -> None:
    value = lepton("bench", model, "--prompt-tokens", "5", "--output-tokens", "1", "--repeat", "1", "--json").json()
    assert value["decode_tokens_per_s"] is None


def test_for_people(lepton: Lepton, model: str) -> None:
    lines = lepton("bench", model, "--prompt-tokens", "5", "--output-tokens", "2", "--repeat", "1").out.splitlines()
    assert any(line.startswith("decode_tokens_per_s ") for line in lines)


def test_more_than_the_context(lepton: Lepton, model: str) -> None:
    result = lepton("bench", model, "--prompt-tokens", "250", "--output-tokens", "20")
    assert result.status == 2 and "max_model_len: expected 2 to 256" in result.err


def test_no_such_model(lepton: Lepton, tmp_path: Path) -> None:
    result = lepton("bench", str(tmp_path / "absent.gguf"), "--json")
    assert result.status == 1 and "model_not_found" in result.out
