"""``generation_config.json``: end tokens and sampling; malformed values are refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lepton_ai.errors import InvalidModel
from lepton_ai.weights.generation_config import GENERATION_CONFIG, GenerationConfig, read_generation_config


def read(folder: Path, values: object, config: dict[str, object] | None = None) -> GenerationConfig:
    (folder / GENERATION_CONFIG).write_text(values if isinstance(values, str) else json.dumps(values))
    return read_generation_config(folder, config or {}, vocab_size=100)


def test_the_end_tokens(tmp_path: Path) -> None:
    assert read(tmp_path, {"eos_token_id": 7}).eos_token_ids == (7,)
    assert read(tmp_path, {"eos_token_id": [0, 99]}).eos_token_ids == (0, 99)
    assert read(tmp_path, {"eos_token_id": None}) == read(tmp_path, {}) == GenerationConfig()


def test_the_file_counts_before_the_configuration(tmp_path: Path) -> None:
    config: dict[str, object] = {"eos_token_id": [3, 4], "temperature": 0.1}
    assert read_generation_config(tmp_path, config, vocab_size=100) == GenerationConfig((3, 4))
    assert read(tmp_path, {"eos_token_id": 7}, config).eos_token_ids == (7,)
    assert read(tmp_path, {}, config).eos_token_ids == ()


def test_sampling(tmp_path: Path) -> None:
    sampling = {"temperature": 0.6, "top_k": 20, "top_p": 0.95, "min_p": 0.1, "repetition_penalty": 1.05}
    others = {"do_sample": True, "transformers_version": "4.50.0", "max_length": 20, "num_beams": 4}
    assert read(tmp_path, {**sampling, **others}).sampling == sampling
    assert read(tmp_path, {**others, "top_k": None}).sampling == {}


@pytest.mark.parametrize("value", [-1, 100, True, 1.0, "7", {}, [1, None], [[1]], [1, 100], [1] * 257])
def test_what_is_no_end_token(tmp_path: Path, value: object) -> None:
    with pytest.raises(InvalidModel, match=r"generation_config\.json: eos_token_id: expected token ids from 0 to 99"):
        read(tmp_path, {"eos_token_id": value})
    (tmp_path / GENERATION_CONFIG).unlink()
    with pytest.raises(InvalidModel, match=r"config\.json: eos_token_id"):
        read_generation_config(tmp_path, {"eos_token_id": value}, vocab_size=100)


@pytest.mark.parametrize("key", ["temperature", "top_k", "top_p", "min_p", "repetition_penalty"])
@pytest.mark.parametrize("value", [True, "0.5", [1], {}])
def test_what_is_no_number(tmp_path: Path, key: str, value: object) -> None:
    with pytest.raises(InvalidModel, match=rf"generation_config\.json: {key}: expected a number"):
        read(tmp_path, {key: value})


@pytest.mark.parametrize(
    "text", ["", "[]", '{"eos_token_id": 1, "eos_token_id": 2}', '{"top_p": NaN}', " " * (2 << 20)]
)
def test_what_is_no_object(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidModel, match=r"generation_config\.json: expected"):
        read(tmp_path, text)
