"""Fixtures: ``lepton`` called in this process, with a home of its own and a fake index that carries one small model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from tests.weights.sources.fake_index import FakeIndex, make_model, serve

from lepton_ai.cli import models
from lepton_ai.cli.main import main
from lepton_ai.weights.sources import registry

DATA = bytes(range(256)) * 1000


@dataclass(frozen=True)
class Result:
    """What a command did."""

    status: int
    out: str
    err: str

    def json(self) -> dict[str, object]:
        """Standard output, which must be one object on one line."""
        assert self.out.count("\n") == 1
        value = json.loads(self.out)
        assert isinstance(value, dict)
        return value


Lepton = Callable[..., Result]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LEPTON_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def lepton(home: Path, capsys: pytest.CaptureFixture[str]) -> Lepton:
    def call(*argv: str) -> Result:
        status = main(argv)
        captured = capsys.readouterr()
        return Result(status, captured.out, captured.err)

    return call


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeIndex]:
    """The index that the environment names: it carries ``tiny``, also called ``small``."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    model, wheels = make_model("tiny", [DATA])
    known = (replace(model, aliases=("small",)),)
    monkeypatch.setattr(registry, "KNOWN_MODELS", known)
    monkeypatch.setattr(models, "KNOWN_MODELS", known)
    with serve() as running:
        running.wheels.update(wheels)
        monkeypatch.setenv("LEPTON_INDEX_URL", running.url.replace("http://", "http://me:hunter2@") + "/simple")
        yield running
