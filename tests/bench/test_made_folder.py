"""A gigabyte of safetensors is never held twice: pages of what is packed are given back."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench.made_folder import LAYER_BYTES, write_folder
from bench.memory import MEGABYTE, measure


@pytest.mark.large
def test_a_large_folder_is_held_once(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    write_folder(folder, num_layers=round(1e9 / LAYER_BYTES))
    stored_bytes = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    assert stored_bytes > 1e9
    for figure in measure(folder):
        assert figure.is_within, figure
        assert figure.limit * MEGABYTE < 1.5 * stored_bytes
