from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from bench.peers import BUILDS, ensure_encoder_peers, ensure_parity_peers, ensure_peers

from bench import peers


class Recorder:
    """Stands for subprocess.run: it makes the interpreter that bootstrap.py would make."""

    def __init__(self) -> None:
        self.commands: list[list[str]] = []
        self.cmake_args: list[str | None] = []

    def __call__(self, command: list[object], *, check: bool, env: dict[str, str] | None = None) -> None:
        assert check
        self.commands.append([str(part) for part in command])
        self.cmake_args.append(env["CMAKE_ARGS"] if env else None)
        if "bootstrap.py" in str(command[1]):
            python = Path(str(command[2])) / "bin" / "python"
            python.parent.mkdir(parents=True, exist_ok=True)
            python.touch()


@pytest.fixture
def recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr(subprocess, "run", recorder)
    for name in ("REQUIREMENTS", "ENCODER_REQUIREMENTS", "PARITY_REQUIREMENTS"):
        (tmp_path / name).write_text("peer==1\n")
        monkeypatch.setattr(peers, name, tmp_path / name)
    monkeypatch.setattr(peers, "ENCODER_FOLDER", tmp_path / "encoders")
    monkeypatch.setattr(peers, "PARITY_FOLDER", tmp_path / "parity")
    return recorder


def test_an_environment_is_made_once_for_its_requirements(recorder: Recorder, tmp_path: Path) -> None:
    assert ensure_encoder_peers() == ensure_encoder_peers() == tmp_path / "encoders" / "bin" / "python"
    assert len(recorder.commands) == 2
    (tmp_path / "ENCODER_REQUIREMENTS").write_text("peer==2\n")
    ensure_encoder_peers()
    assert len(recorder.commands) == 4
    assert recorder.commands[-1][-2:] == ["--requirement", str(tmp_path / "ENCODER_REQUIREMENTS")]
    assert set(recorder.cmake_args) == {None}


def test_llama_cpp_is_compiled_with_the_options_of_its_build(recorder: Recorder, tmp_path: Path) -> None:
    for name in ("native", "avx2"):
        build = peers.PeerBuild(tmp_path / name, BUILDS[name].cmake_args, None)
        ensure_peers(build)
        assert recorder.cmake_args[-1] == build.cmake_args
        assert {"--no-binary", "--no-cache-dir"} < set(recorder.commands[-1])
    assert ensure_parity_peers() == tmp_path / "parity" / "bin" / "python"
    assert recorder.cmake_args[-1] == BUILDS["native"].cmake_args
    changed = peers.PeerBuild(tmp_path / "native", "-DOTHER=ON", None)
    ensure_peers(changed)
    assert len(recorder.commands) == 8
