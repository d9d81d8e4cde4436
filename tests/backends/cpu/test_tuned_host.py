"""The file of ``lepton tune``: it is obeyed on the host that it is of, and never half."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lepton_ai.backends.cpu.host import Host, read_host
from lepton_ai.backends.cpu.tuned_host import (
    FILE_NAME,
    StoredTuning,
    TuningInForce,
    native_digest,
    read_tuning,
    remove_tuning,
    tuning_in_force,
    write_tuning,
)
from lepton_ai.backends.cpu.tuning import Tuning
from lepton_ai.errors import InvalidRequest, StorageError

TUNED = replace(Tuning.default("generic"), row_block=192, prefetch_bytes=1024)


def stored(home: Path) -> StoredTuning:
    """A tuning of this host."""
    return StoredTuning(
        host=read_host(),
        native=native_digest(home),
        isa="generic",
        num_threads=3,
        tuning=TUNED,
        evidence={"model": "a model", "rounds": 15},
    )


def test_round_trip(tmp_path: Path) -> None:
    home = tmp_path / "home"
    path = write_tuning(home, stored(home))
    assert read_tuning(home) == stored(home)
    assert tuning_in_force(home, "generic") == TuningInForce(TUNED, 3, str(path), stored(home).evidence)
    assert {each.name for each in home.iterdir()} == {FILE_NAME, "digests.json"}
    write_tuning(home, replace(stored(home), num_threads=1))
    assert tuning_in_force(home, "generic").num_threads == 1
    assert remove_tuning(home) and not remove_tuning(home)
    assert tuning_in_force(home, "generic").evidence is None


def test_without_a_file_the_defaults_hold(tmp_path: Path) -> None:
    found = tuning_in_force(tmp_path / "home", "generic")
    assert (found.tuning, found.num_threads, found.evidence) == (Tuning.default("generic"), None, None)
    assert "lepton tune" in found.source
    assert not (tmp_path / "home").exists() and not remove_tuning(tmp_path / "home")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda each: replace(each, host=replace(each.host, num_cores=99)), "another host (num_cores 99, here "),
        (lambda each: replace(each, host=replace(each.host, processor="abacus")), "another host (processor abacus"),
        (lambda each: replace(each, host=replace(each.host, caches="")), "another host (caches "),
        (lambda each: replace(each, native="0" * 64), "another build of Lepton's native core"),
        (lambda each: replace(each, isa="sse9"), "for the instruction set sse9"),
    ],
)
def test_of_something_else(tmp_path: Path, change: Callable[[StoredTuning], StoredTuning], said: str) -> None:
    path = write_tuning(tmp_path, change(stored(tmp_path)))
    found = tuning_in_force(tmp_path, "generic")
    assert (found.tuning, found.num_threads, found.evidence) == (Tuning.default("generic"), None, None)
    assert str(path) in found.source and said in found.source


def _changed(content: dict[str, object], *path: str, value: object) -> str:
    inner: object = content
    for name in path[:-1]:
        assert isinstance(inner, dict)
        inner = inner[name]
    assert isinstance(inner, dict)
    inner[path[-1]] = value
    return json.dumps(content)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("version",), 2, "version: expected 1, got 2"),
        (("extra",), 1, "'extra' differs"),
        (("num_threads",), 0, "num_threads: expected 1 ... 256, got 0"),
        (("num_threads",), 257, "num_threads: expected 1 ... 256, got 257"),
        (("num_threads",), True, "num_threads: expected 1 ... 256, got True"),
        (("isa",), 3, "isa: expected a text, got int"),
        (("host",), [], "host: expected an object, got list"),
        (("host", "bogus"), 1, "host: expected processor"),
        (("host", "num_cores"), "2", "host: expected num_cores as an integer, got '2'"),
        (("host", "processor"), None, "processor: expected a text"),
        (("tuning",), None, "tuning: expected an object"),
        (("tuning", "row_block"), 1 << 40, "row_block: expected 64 ... 512 in steps of 8, got 1099511627776"),
        (("tuning", "row_block"), -8, "row_block: expected 64 ... 512"),
        (("tuning", "rest_chunks"), "16", "rest_chunks: expected 1 ... 64, got '16'"),
        (("tuning", "bogus"), 16, "bogus: expected one of"),
        (("evidence",), "none", "evidence: expected an object"),
        (("native",), None, "native: expected a text"),
    ],
)
def test_values_out_of_bounds(tmp_path: Path, path: tuple[str, ...], value: object, said: str) -> None:
    file = write_tuning(tmp_path, stored(tmp_path))
    file.write_text(_changed(json.loads(file.read_text()), *path, value=value))
    with pytest.raises(InvalidRequest) as caught:
        tuning_in_force(tmp_path, "generic")
    assert caught.value.message.startswith(f"{file}: ") and said in caught.value.message
    assert "lepton tune --reset" in caught.value.message


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"version": 1}', '{"version": 1, "version": 1}', "\x00"])
def test_no_such_file(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE_NAME).write_text(content)
    with pytest.raises(InvalidRequest, match=FILE_NAME):
        tuning_in_force(tmp_path, "generic")
    assert remove_tuning(tmp_path)


def test_a_file_too_large(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b" " * ((1 << 20) + 1))
    with pytest.raises(InvalidRequest, match="at most 1048576 bytes"):
        tuning_in_force(tmp_path, "generic")


def test_numbers_are_checked_before_the_host(tmp_path: Path) -> None:
    file = write_tuning(tmp_path, replace(stored(tmp_path), host=Host("abacus", "wood", 1, "")))
    file.write_text(_changed(json.loads(file.read_text()), "tuning", "row_block", value=7))
    with pytest.raises(InvalidRequest, match="row_block"):
        tuning_in_force(tmp_path, "generic")


def test_what_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").write_text("a file where a folder should be")
    with pytest.raises(StorageError, match=FILE_NAME):
        write_tuning(tmp_path / "home", replace(stored(tmp_path), native=""))
    write_tuning(tmp_path, stored(tmp_path))

    def fail(*paths: object) -> None:
        raise OSError("no more")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(StorageError, match="no more"):
        write_tuning(tmp_path, replace(stored(tmp_path), num_threads=1))
    assert not [each for each in tmp_path.iterdir() if each.name.startswith(".tuning")]
    assert read_tuning(tmp_path) == stored(tmp_path)


def test_a_folder_in_its_place(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(StorageError, match=FILE_NAME):
        tuning_in_force(tmp_path, "generic")


def test_what_tells_hosts_apart(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: A 1\n\nprocessor\t: 1\nmodel name\t: B 2\n")
    for index, size in enumerate(("48K", "2048K")):
        (tmp_path / f"index{index}").mkdir()
        (tmp_path / f"index{index}" / "size").write_text(f"{size}\n")
    host = read_host(cpuinfo, tmp_path)
    assert (host.processor, host.caches) == ("A 1", "48K 2048K")
    cpuinfo.write_text("processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd40\n\n")
    assert read_host(cpuinfo, tmp_path).processor == "0x41 0xd40"
    assert read_host(tmp_path / "none", tmp_path).processor == "unknown"
