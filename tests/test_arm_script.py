"""scripts/test_arm.py, short of what it fetches, compiles and emulates."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from scripts import test_arm as script

from lepton_ai.backends.cpu.device import MEASURED_ISAS


def executable(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_what_is_missing_is_said_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    executable(tmp_path / "apt-get", "")
    executable(tmp_path / "dpkg-deb", "")
    with pytest.raises(SystemExit, match=r"apt-get install g\+\+-aarch64-linux-gnu qemu-user-static$"):
        script.main()


def test_what_is_made_is_made_again_of_other_inputs_only(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    assert not script.is_made(folder, ["a", "b"])
    with script.making(folder, ["a", "b"]):
        (folder / "old").touch()
    assert script.is_made(folder, ["a", "b"])
    assert not script.is_made(folder, ["a"])
    with script.making(folder, ["a"]):
        assert not (folder / "old").exists()
    assert script.is_made(folder, ["a"])


def test_what_was_left_half_made_is_made_again(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no space"), script.making(tmp_path / "made", ["a"]):
        raise OSError("no space")
    assert not script.is_made(tmp_path / "made", ["a"])


def test_requirements_are_those_of_the_package_and_of_the_tests(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[project]\ndependencies = ["numpy>=1.26"]\n'
        "[project.optional-dependencies]\n"
        'dev = ["lepton-ai[docs]", "mypy>=1.11", "pytest>=8.2", "gguf<1", "ruff==1", "clang-format"]\n'
    )
    assert script.requirements(tmp_path / "pyproject.toml") == ["numpy>=1.26", "pytest>=8.2", "gguf<1"]


def test_the_version_of_python_is_read_off_its_name(tmp_path: Path) -> None:
    (tmp_path / "usr" / "bin").mkdir(parents=True)
    for name in ("python3", "python3.13", "python3.13-config"):
        (tmp_path / "usr" / "bin" / name).touch()
    assert script.python_version(tmp_path) == "3.13"


def test_the_package_is_copied_with_one_core(tmp_path: Path) -> None:
    core = tmp_path / "_native.arm.so"
    core.write_bytes(b"core")
    (tmp_path / "copy" / "lepton_ai").mkdir(parents=True)
    (tmp_path / "copy" / "lepton_ai" / "gone.py").touch()
    script.copy_package(core, tmp_path / "copy")
    package = tmp_path / "copy" / "lepton_ai"
    assert [path.relative_to(package) for path in package.rglob("*.so")] == [Path("backends/cpu/_native.arm.so")]
    assert (package / "errors.py").exists() and not (package / "gone.py").exists()


def test_the_interpreter_runs_in_the_emulator_and_names_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tools, made = tmp_path / "tools", tmp_path / "it's made"
    tools.mkdir()
    made.mkdir()
    executable(tools / "qemu-aarch64-static", 'printf "%s\\n" "$PYTHONHOME" "$PYTHONPATH" "$@"')
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    monkeypatch.setenv("PYTHONPATH", "/theirs")
    monkeypatch.delenv("QEMU_CPU", raising=False)
    python = made / "python"
    script.write_interpreter(python, tmp_path / "root", "3.11")
    root = f"{tmp_path}/root"
    assert script.run([python, "-c", "a b"], capture=True).splitlines() == [
        f"{root}/usr", f"{made}/lepton:{made}/packages:/theirs",
        "-cpu", "max", "-L", root, "-0", str(python), f"{root}/usr/bin/python3.11", "-c", "a b",
    ]  # fmt: skip


def test_a_processor_that_is_taken_for_another_one_ends_it(tmp_path: Path) -> None:
    cases = "\n".join(f"{name}) echo {' '.join(isas)};;" for name, isas in script.PROCESSORS.items())
    python = executable(tmp_path / "python", f'case "$QEMU_CPU" in\n{cases}\nesac')
    script.check_detection(python)
    executable(python, "echo i8mm neondot generic")
    with pytest.raises(SystemExit, match="cortex-a72: expected the instruction sets generic, found i8mm, neondot"):
        script.check_detection(python)


def test_each_instruction_set_is_looked_for() -> None:
    assert set(script.PROCESSORS["max"]) - MEASURED_ISAS == {"neondot", "i8mm"}
    assert all((script.ROOT / test).exists() for test in script.TESTS)


def test_a_command_that_fails_ends_it() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        script.run(["false"])
