from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from tests.cli.conftest import Lepton
from tests.engine.tiny_gguf import tiny_gguf

from lepton_ai import LLM

TEXT = "The quick brown fox jumps over the lazy dog. " * 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("model")
    tiny_gguf(made / "tiny.gguf")
    tiny_gguf(made / "other.gguf", seed=1)
    (made / "text.txt").write_text(TEXT)
    return made


def number(value: object) -> float:
    assert isinstance(value, float)
    return value


def test_perplexity_of_windows(lepton: Lepton, folder: Path) -> None:
    options = ["--text", str(folder / "text.txt"), "--max-tokens", "600", "--json"]
    value = lepton("eval", str(folder / "tiny.gguf"), *options).json()
    # The context of 256 is shorter than a window of 512: windows of 256, 256 and 88, the first token of each unscored.
    with LLM(folder / "tiny.gguf") as llm:
        ids = llm.tokenizer.encode(TEXT)[:600]
        logprobs = [p for start in (0, 256, 512) for p in llm.score([ids[start : start + 256]])[0].logprobs]
    assert value["num_tokens"] == len(logprobs) == 597
    assert number(value["perplexity"]) == pytest.approx(math.exp(-np.mean(logprobs)), rel=1e-6)
    assert "kl_divergence" not in value


def test_against_itself_there_is_no_distance(lepton: Lepton, folder: Path) -> None:
    options = ["--text", str(folder / "text.txt"), "--max-tokens", "300", "--against", "auto", "--json"]
    value = lepton("eval", str(folder / "tiny.gguf"), *options).json()
    assert (value["kl_divergence"], value["kl_p999"], value["top1_agreement"]) == (0.0, 0.0, 1.0)
    assert value["num_tokens"] == 298
    plain = lepton("eval", str(folder / "tiny.gguf"), *options[:4], "--json").json()
    assert number(value["perplexity"]) == pytest.approx(number(plain["perplexity"]), rel=1e-4)


def test_what_8_bits_of_the_cache_cost(lepton: Lepton, folder: Path) -> None:
    options = ["--text", str(folder / "text.txt"), "--max-tokens", "300", "--kv-dtype", "int8", "--json"]
    value = lepton("eval", str(folder / "tiny.gguf"), *options, "--against", "auto").json()
    assert 0 < number(value["kl_divergence"]) < 3e-3
    assert (value["kv_dtype"], value["policy"]) == ("int8", "auto")


def test_against_another_model(lepton: Lepton, folder: Path) -> None:
    options = ["--text", str(folder / "text.txt"), "--against", str(folder / "other.gguf"), "--json"]
    value = lepton("eval", str(folder / "tiny.gguf"), *options).json()
    assert number(value["kl_divergence"]) > 0.1 and number(value["top1_agreement"]) < 0.5
    assert number(value["kl_p999"]) > number(value["kl_divergence"])


def test_for_people(lepton: Lepton, folder: Path) -> None:
    result = lepton("eval", str(folder / "tiny.gguf"), "--text", str(folder / "text.txt"), "--max-tokens", "50")
    assert result.out.startswith("perplexity ") and "num_tokens       49" in result.out


@pytest.mark.parametrize(
    ("text", "message"), [("absent.txt", "cannot read"), ("short.txt", "at least two tokens"), (".", "cannot read")]
)
def test_bad_text(lepton: Lepton, folder: Path, text: str, message: str) -> None:
    (folder / "short.txt").write_text("x")
    result = lepton("eval", str(folder / "tiny.gguf"), "--text", str(folder / text))
    assert result.status == 2 and message in result.err
