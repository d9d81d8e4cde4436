"""Digests are computed once for a file, and again for any file that is not the same one."""

from __future__ import annotations

import hashlib
import io
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lepton_ai.errors import InvalidModel
from lepton_ai.weights import digest as digest_module
from lepton_ai.weights.digest import file_digest

CONTENT = b"weights" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class _Reads:
    """Counts how often a file was hashed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        original = digest_module._hash

        def counted(file: io.FileIO) -> str:
            self.count += 1
            return original(file)

        monkeypatch.setattr(digest_module, "_hash", counted)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> _Reads:
    return _Reads(monkeypatch)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    path.write_bytes(CONTENT)
    _settle()
    return path


def _settle() -> None:
    time.sleep(0.07)


def _digest(path: Path, home: Path | None) -> str:
    with io.FileIO(path) as file:
        file.seek(100)
        return file_digest(file, home=home, label=str(path))


def test_computed_once(tmp_path: Path, model: Path, reads: _Reads) -> None:
    home = tmp_path / "new" / "home"
    assert [_digest(model, home) for _ in range(3)] == [SHA256] * 3
    assert reads.count == 1
    assert [path.name for path in home.iterdir()] == ["digests.json"]
    assert (home / "digests.json").stat().st_mode & 0o777 == 0o600


def test_without_a_home_it_is_computed_each_time(model: Path, reads: _Reads) -> None:
    assert _digest(model, None) == _digest(model, None) == SHA256
    assert reads.count == 2


def test_a_change_that_restores_size_and_modification_time(tmp_path: Path, model: Path, reads: _Reads) -> None:
    _digest(model, tmp_path)
    status = model.stat()
    with model.open("r+b") as file:
        file.write(b"W")
    os.utime(model, ns=(status.st_atime_ns, status.st_mtime_ns))  # size, inode and modification time are as before
    assert _digest(model, tmp_path) == hashlib.sha256(b"W" + CONTENT[1:]).hexdigest()
    assert reads.count == 2


def test_a_file_that_changed_just_now_is_not_remembered(tmp_path: Path, reads: _Reads) -> None:
    path = tmp_path / "model"
    path.write_bytes(CONTENT)
    _digest(path, tmp_path)
    assert not (tmp_path / "digests.json").exists()


@pytest.mark.parametrize("memo", ["", "{", "[]", '{"x": 1}', "null", "[" * 100_000])
def test_a_damaged_memo_is_replaced(tmp_path: Path, model: Path, reads: _Reads, memo: str) -> None:
    (tmp_path / "digests.json").write_text(memo)
    assert _digest(model, tmp_path) == _digest(model, tmp_path) == SHA256
    assert reads.count == 1


@pytest.mark.parametrize("sha256", [None, 5, "abc", ["x"]])
def test_a_damaged_entry_is_not_believed(tmp_path: Path, model: Path, reads: _Reads, sha256: object) -> None:
    _digest(model, tmp_path)
    memo = json.loads((tmp_path / "digests.json").read_text())
    for entry in memo.values():
        entry["sha256"] = sha256
    (tmp_path / "digests.json").write_text(json.dumps(memo))
    assert _digest(model, tmp_path) == SHA256 and reads.count == 2


def test_the_memo_is_bounded_and_keeps_the_newest(tmp_path: Path, model: Path) -> None:
    old = {f"1:{i}": {"identity": [1, i, 0, 0, 0], "sha256": "0" * 64} for i in range(1000)}
    (tmp_path / "digests.json").write_text(json.dumps(old))
    _digest(model, tmp_path)
    kept = list(json.loads((tmp_path / "digests.json").read_text()))
    assert len(kept) == 256 and kept[-2] == "1:999" and kept[-1].endswith(f":{model.stat().st_ino}")


def test_a_home_that_cannot_be_written_is_tolerated(tmp_path: Path, model: Path, reads: _Reads) -> None:
    (tmp_path / "file").touch()
    assert _digest(model, tmp_path / "file") == SHA256
    assert reads.count == 1


def test_a_failed_write_leaves_nothing(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", refuse)
    home = tmp_path / "home"
    assert _digest(model, home) == SHA256
    assert list(home.iterdir()) == []


def test_a_file_that_changes_meanwhile(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hash_and_change(file: io.FileIO) -> str:
        model.write_bytes(CONTENT + b"x")
        return SHA256

    monkeypatch.setattr(digest_module, "_hash", hash_and_change)
    with pytest.raises(InvalidModel, match="model: the file changed while it was read"):
        _digest(model, tmp_path)
    assert not (tmp_path / "digests.json").exists()


def test_threads_that_share_an_open_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    path = tmp_path / "large"
    content = os.urandom(1 << 20) * 24
    path.write_bytes(content)
    with io.FileIO(path) as file, ThreadPoolExecutor(4) as pool:
        digests = list(pool.map(lambda _: file_digest(file, home=None, label="large"), range(4)))
    assert digests == [hashlib.sha256(content).hexdigest()] * 4
