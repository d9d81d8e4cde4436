"""A process with several models."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.engine.published import SENTENCE_FILES, published_bert, write_files
from tests.engine.tiny_gguf import tiny_gguf

from lepton_ai.errors import InvalidRequest
from lepton_ai.serve.life.engine import EngineOptions, RunningEngine
from lepton_ai.weights.sources.progress import NoProgress


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("LEPTON_HOME", str(tmp_path / "home"))
    encoder = write_files(tmp_path / "bert", published_bert() | SENTENCE_FILES)
    return {"tiny": str(tiny_gguf(tmp_path / "tiny.gguf")), "bert": str(encoder)}


def kinds(models: dict[str, str], **options: Any) -> dict[str, str | None]:
    """The type of the KV cache of each model, None of an encoder."""

    async def start() -> dict[str, str | None]:
        made = EngineOptions(models=models, num_threads=1, model_options=options)
        engine = await RunningEngine.start(made, NoProgress())
        try:
            return {name: llm.model_info.kv_dtype for name, llm in engine.llms.items()}
        finally:
            await engine.close()

    return asyncio.run(start())


def test_options_of_the_cache_are_for_models_that_have_one(models: dict[str, str]) -> None:
    assert kinds(models, kv_dtype="int8", kv_memory_bytes=1 << 20, max_model_len=200) == {"tiny": "int8", "bert": None}


def test_where_no_model_has_one_they_are_refused(models: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest, match="kv_dtype: expected none"):
        kinds({"bert": models["bert"]}, kv_dtype="int8")
