from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from bench.peers.encoder_files import make_peer_forms

from bench.peers import encoder_files

EXPORTER = """#!/bin/sh
echo "$*" >> "{log}"
[ "$1 $2" = "-m bench.peers.converters.encoder" ] && cp "$4" "$5/f32.onnx" && exit {status}
"""


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(encoder_files, "CACHE", tmp_path / "cache")
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_bytes(b"{}")
    return folder


def exporter(folder: Path, *, status: int = 0) -> Path:
    """Stands for the peers' interpreter: it copies the calibration ids to where a model belongs."""
    path = folder / f"exporter-{status}"
    path.write_text(EXPORTER.format(log=folder / "log", status=status))
    path.chmod(0o700)
    return path


def test_forms_are_made_once_for_a_model_and_its_calibration(model: Path, tmp_path: Path) -> None:
    python = exporter(tmp_path)
    first = make_peer_forms(model, [[1, 2]], python)
    assert json.loads((first / "f32.onnx").read_text()) == [[1, 2]]
    assert make_peer_forms(model, [[1, 2]], python) == first
    assert make_peer_forms(model, [[1, 3]], python) != first
    (model / "model.safetensors").write_bytes(b"{ }")
    assert make_peer_forms(model, [[1, 2]], python) != first
    assert len((tmp_path / "log").read_text().splitlines()) == 3


def test_a_failed_export_leaves_nothing(model: Path, tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        make_peer_forms(model, [[1, 2]], exporter(tmp_path, status=3))
    assert list((tmp_path / "cache").iterdir()) == []
