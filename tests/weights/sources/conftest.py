"""Fixtures: a fake index, a fake hub, a library in a temporary folder, and a puller between them that never sleeps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.weights.sources.fake_hub import FakeHub, serve_hub
from tests.weights.sources.fake_index import FakeIndex, serve

from lepton_ai.weights.sources.index import PackageIndex
from lepton_ai.weights.sources.library import Library
from lepton_ai.weights.sources.pip_config import IndexConfig
from lepton_ai.weights.sources.pull import Puller
from lepton_ai.weights.sources.transport import Transport


@dataclass
class RecordedProgress:
    """A Progress that remembers."""

    calls: list[tuple[str, int]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    num_finished: int = 0

    def start(self, label: str, *, total_bytes: int, done_bytes: int) -> None:
        self.texts.append(label)
        self.calls.append(("start", done_bytes))

    def update(self, done_bytes: int) -> None:
        self.calls.append(("update", done_bytes))

    def describe(self, text: str) -> None:
        self.texts.append(text)

    def finish(self) -> None:
        self.num_finished += 1


@dataclass
class World:
    """Everything that a pull touches."""

    index: FakeIndex
    home: Path
    progress: RecordedProgress = field(default_factory=RecordedProgress)
    pauses: list[float] = field(default_factory=list)

    @property
    def library(self) -> Library:
        return Library(self.home)

    def config(self, **options: object) -> IndexConfig:
        return IndexConfig(index_urls=(f"{self.index.url}/simple",), timeout_s=5, **options)  # type: ignore[arg-type]

    def transport(self, config: IndexConfig | None = None) -> Transport:
        return Transport(config or self.config(), sleep=self.pauses.append)

    def puller(self, config: IndexConfig | None = None) -> Puller:
        config = config or self.config()
        transport = self.transport(config)
        return Puller(self.library, PackageIndex(config, transport), transport, self.progress)

    def files(self) -> list[str]:
        """All files of the home but locks, relative to it."""
        found = sorted(str(p.relative_to(self.home)) for p in self.home.rglob("*") if p.is_file())
        return [name for name in found if not name.startswith("locks/")]


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loopback is reached directly, whatever the machine's proxies are."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def index() -> Iterator[FakeIndex]:
    with serve() as running:
        yield running


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with serve_hub(monkeypatch) as running:
        yield running


@pytest.fixture
def world(index: FakeIndex, tmp_path: Path) -> World:
    return World(index, tmp_path / "home")


@pytest.fixture
def second_world(world: World) -> Callable[[], World]:
    """Another process's view of the same home and index."""
    return lambda: World(world.index, world.home)
