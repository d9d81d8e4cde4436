"""A virtual environment from nothing: with ensurepip hidden, pip comes from the index, a fake one here."""

from __future__ import annotations

import importlib.util
import subprocess
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
from scripts import bootstrap
from tests.weights.sources.fake_index import FakeIndex, make_wheel, serve

# Runs out of its wheel, as pip does: `python pip.whl/pip install ... pip.whl` puts it into the environment.
FAKE_PIP = b"""
import shutil, sys, sysconfig, zipfile
if sys.argv[1] == "install":
    assert sys.argv[2:4] == ["--quiet", "--no-index"], sys.argv
    zipfile.ZipFile(sys.argv[4]).extractall(sysconfig.get_path("purelib"))
else:
    print("pip of the test")
"""


@pytest.fixture
def without_ensurepip(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Debian has without python3-venv."""
    find = importlib.util.find_spec

    def hide(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name == "ensurepip" else find(name, package)

    monkeypatch.setattr("importlib.util.find_spec", hide)


def configure(monkeypatch: pytest.MonkeyPatch, index: FakeIndex) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", f"{index.url}/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")


@pytest.mark.usefixtures("without_ensurepip")
def test_pip_is_fetched_where_ensurepip_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve() as index:
        configure(monkeypatch, index)
        wheel = make_wheel({"pip/__init__.py": b"", "pip/__main__.py": FAKE_PIP})
        index.wheels[f"pip-{bootstrap.PIP_VERSION}-py3-none-any.whl"] = wheel
        python = bootstrap.make_environment(tmp_path / "env")
        assert bootstrap.has_pip(python)
        num_requests = len(index.requests)
        assert bootstrap.make_environment(tmp_path / "env") == python
        assert len(index.requests) == num_requests  # what works is kept


@pytest.mark.usefixtures("without_ensurepip")
def test_an_index_without_pip_ends_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve() as index:
        configure(monkeypatch, index)
        with pytest.raises(SystemExit, match=f"bootstrap: no wheel of pip {bootstrap.PIP_VERSION}"):
            bootstrap.make_environment(tmp_path / "env")


def test_what_has_no_pip_is_made_again(tmp_path: Path) -> None:
    assert not bootstrap.has_pip(tmp_path / "bin" / "python")
    (tmp_path / "bin").mkdir()
    broken = tmp_path / "bin" / "python"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    assert not bootstrap.has_pip(broken)


def test_build_requirements(tmp_path: Path) -> None:
    names = {
        requirement.partition(">")[0] for requirement in bootstrap.build_requirements(bootstrap.ROOT / "pyproject.toml")
    }
    assert names == {"scikit-build-core", "nanobind"}


def test_a_failure_of_pip_is_not_passed_over(tmp_path: Path) -> None:
    failing = tmp_path / "python"
    failing.write_text("#!/bin/sh\nexit 3\n")
    failing.chmod(0o755)
    with pytest.raises(subprocess.CalledProcessError):
        bootstrap.run_pip(failing, "install", "nothing")
