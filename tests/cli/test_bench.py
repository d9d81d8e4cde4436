from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.conftest import Lepton
from tests.engine.published import SENTENCE_FILES, published_bert, write_files
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


def test_figures_of_an_encoder(lepton: Lepton, tmp_path: Path) -> None:
    path = str(write_files(tmp_path / "bert", published_bert() | SENTENCE_FILES))
    options = ["--prompt-tokens", "40", "--concurrency", "5", "--repeat", "2", "--threads", "1"]
    value = lepton("bench", path, *options, "--json").json()
    assert (value["concurrency"], value["prompt_tokens"], value["num_threads"]) == (5, 40, 1)
    texts, tokens = value["texts_per_s"], value["tokens_per_s"]
    assert isinstance(texts, float) and texts > 0 and tokens == pytest.approx(40 * texts)
    refused = lepton("bench", path, *options, "--output-tokens", "3")
    assert refused.status == 2 and "--output-tokens: expected none for an encoder" in refused.err
    beyond = lepton("bench", path, "--prompt-tokens", "49")
    assert beyond.status == 2 and "max_model_len: expected 1 to 48" in beyond.err
