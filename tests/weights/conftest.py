"""Fixtures of the weight tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from lepton_ai.config import Environment
from lepton_ai.weights.packed import PackedCache

_SMOLLM2_BYTES = 98_362_432


@pytest.fixture(scope="session")
def smollm2_path() -> Path:
    """The published SmolLM2 file, if ``lepton pull smollm2`` put it into the home."""
    home = Environment.read().home
    for path in home.rglob("*.gguf"):
        if path.stat().st_size == _SMOLLM2_BYTES:
            return path
    pytest.skip(f"smollm2 is not under {home}")


@pytest.fixture
def cache(tmp_path: Path) -> PackedCache:
    """An empty packed cache."""
    return PackedCache(tmp_path / "home")
