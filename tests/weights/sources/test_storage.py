from __future__ import annotations

import errno
import shutil
import threading
from pathlib import Path

import pytest

from lepton_ai.errors import StorageError
from lepton_ai.weights.sources.storage import check_space, exclusive, storage_errors


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_says_what_to_do(code: int) -> None:
    with pytest.raises(StorageError, match=r"/a/b: the disk is full; .*LEPTON_HOME"), storage_errors(Path("/a/b")):
        raise OSError(code, "full")


def test_other_disk_errors_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"none\.txt: No such file"), storage_errors(tmp_path):
        (tmp_path / "none.txt").read_text()


def test_other_errors_pass() -> None:
    with pytest.raises(KeyError), storage_errors(Path("/a")):
        raise KeyError


def test_check_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=200_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    check_space(tmp_path, 180_000_000)
    with pytest.raises(StorageError, match="190 MB are needed, 200 MB are free"):
        check_space(tmp_path, 190_000_000)  # less than the slack would be left


def test_the_lock_excludes_and_tells_who_waits(tmp_path: Path) -> None:
    path, events, waiting = tmp_path / "locks" / "m.lock", [], threading.Event()

    def second() -> None:
        with exclusive(path, on_wait=waiting.set):
            events.append("second")

    with exclusive(path, on_wait=lambda: events.append("never")):
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(5)
        events.append("first")
    thread.join(5)
    assert events == ["first", "second"]


def test_the_lock_is_free_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError), exclusive(tmp_path / "m.lock", on_wait=pytest.fail):
        raise KeyError
    with exclusive(tmp_path / "m.lock", on_wait=lambda: pytest.fail("still held")):
        pass


def test_a_home_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    with pytest.raises(StorageError, match="home"), exclusive(tmp_path / "home" / "x.lock", on_wait=pytest.fail):
        pass
