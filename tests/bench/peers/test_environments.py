from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from bench.peers.environments import RECIPES, Recipe, ensure

from bench.peers import environments


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
            python.parent.mkdir(parents=True)
            python.touch()


@pytest.fixture
def recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr(subprocess, "run", recorder)
    monkeypatch.setattr(environments, "REQUIREMENTS", tmp_path)
    monkeypatch.setattr(environments, "FOLDER", tmp_path / "environments")
    for name in ("engine", "llama_cpp"):
        (tmp_path / f"{name}.txt").write_text("peer==1\n")
    (tmp_path / "parity.txt").write_text("-r engine.txt\ntorch==1\n")
    return recorder


def test_an_environment_is_made_once_for_its_requirements(recorder: Recorder, tmp_path: Path) -> None:
    folder = tmp_path / "environments" / "engine"
    assert ensure("engine") == ensure("engine") == folder / "bin" / "python"
    assert len(recorder.commands) == 2
    (folder / "old").touch()
    (tmp_path / "engine.txt").write_text("peer==2\n")
    ensure("engine")
    assert len(recorder.commands) == 4
    assert recorder.commands[-1][-2:] == ["--requirement", str(tmp_path / "engine.txt")]
    assert set(recorder.cmake_args) == {None}
    assert not (folder / "old").exists()


def test_a_changed_file_that_requirements_take_in_makes_it_anew(recorder: Recorder, tmp_path: Path) -> None:
    ensure("parity")
    (tmp_path / "engine.txt").write_text("peer==2\n")
    ensure("parity")
    assert len(recorder.commands) == 4


def test_llama_cpp_is_compiled_with_the_options_of_its_build(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("llama_cpp", "llama_cpp-avx2"):
        assert ensure(name).parts[-3] == name
        assert recorder.cmake_args[-1] == RECIPES[name].cmake_args
        assert {"--no-binary", "--no-cache-dir"} < set(recorder.commands[-1])
    assert len(set(recorder.cmake_args)) == 3
    changed = Recipe("llama_cpp", ("llama-cpp-python",), "-DOTHER=ON")
    monkeypatch.setattr(environments, "RECIPES", {"llama_cpp": changed})
    ensure("llama_cpp")
    assert recorder.cmake_args[-1] == "-DOTHER=ON"


def test_what_is_bare_is_installed_last_and_alone(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "RECIPES", {"engine": Recipe("engine", bare=("tool==1",))})
    ensure("engine")
    assert recorder.commands[-1][-2:] == ["--no-deps", "tool==1"]
    monkeypatch.setattr(environments, "RECIPES", {"engine": Recipe("engine", bare=("tool==2",))})
    ensure("engine")
    assert recorder.commands[-1][-2:] == ["--no-deps", "tool==2"]


def test_a_name_that_there_is_none_of_is_an_error(recorder: Recorder) -> None:
    with pytest.raises(FileNotFoundError, match="other"):
        ensure("other")
    assert recorder.commands == []
