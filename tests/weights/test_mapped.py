"""A mapped file that changes while it is open is noticed; one that is replaced stays what it was."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lepton_ai.errors import InvalidModel
from lepton_ai.weights.mapped import MappedFile

CONTENT = bytes(range(256)) * 64
SMAPS = Path("/proc/self/smaps")


def _append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def _overwrite(path: Path) -> None:
    """Other bytes, as many as before, some time later."""
    before = path.stat()
    with path.open("r+b") as file:
        file.write(b"other")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))


CHANGES: list[Callable[[Path], None]] = [_append, _overwrite, lambda path: os.truncate(path, 100)]


@pytest.fixture
def file(tmp_path: Path) -> MappedFile:
    (tmp_path / "weights").write_bytes(CONTENT)
    return MappedFile(tmp_path / "weights")


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(
    "use", [lambda file: file.data, lambda file: file.digest, lambda file: file.release(0, 4096)], ids=str
)
def test_a_change_is_noticed(
    file: MappedFile, change: Callable[[Path], None], use: Callable[[MappedFile], object]
) -> None:
    assert file.data.tobytes() == CONTENT
    change(file.path)
    with pytest.raises(InvalidModel, match="weights: the file changed while it was open") as raised:
        use(file)
    assert raised.value.code == "invalid_model"
    file.close()


def test_a_file_that_is_replaced_stays_the_one_that_was_opened(file: MappedFile) -> None:
    digest = file.digest
    other = file.path.with_name("other")
    other.write_bytes(b"another")
    other.rename(file.path)
    file.release(0, len(CONTENT))
    assert (file.data.tobytes(), file.digest) == (CONTENT, digest)
    file.close()


@pytest.mark.skipif(not SMAPS.exists(), reason="the system does not say what is resident")
def test_a_release_leaves_nothing_of_what_the_system_mapped_around(tmp_path: Path) -> None:
    path = tmp_path / "just written"
    with path.open("wb", buffering=0) as written:
        for _ in range(8):  # each is a large page of the system's cache, mapped whole: 2 MiB would be dropped whole too
            written.write(bytes(1 << 20))
    file = MappedFile(path)
    for begin in range(0, 8 << 20, 1 << 19):
        assert not file.data[begin : begin + 4096].any()
        file.release(begin, begin + 4096)
    resident_kib = _resident_kib(path)
    file.close()
    assert resident_kib == 0


def _resident_kib(path: Path) -> int:
    """Of this process's mapping of a file."""
    lines = iter(SMAPS.read_text(encoding="utf-8").splitlines())
    next(line for line in lines if line.endswith(str(path)))
    return next(int(line.split()[1]) for line in lines if line.startswith("Rss:"))
