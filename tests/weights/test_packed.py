"""The packed cache: what is written is found again, whatever is damaged is not, and nothing partial is ever left."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import resource
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.weights.open_files import open_files
from tests.weights.packed_cases import KEY, files, fill, has, read, read_payload

from lepton_ai.errors import StorageError
from lepton_ai.weights import packed_format
from lepton_ai.weights.packed import PackedCache

SIZES = {"blk.0": 1000, "empty": 0, "blk.1": 64, "bytes": 1}


def _num_open_files(cache: PackedCache) -> int:
    return len(open_files(cache.folder))


def test_what_is_written_is_found(cache: PackedCache) -> None:
    rng = np.random.default_rng(0)
    contents = {name: rng.integers(0, 256, size, np.uint8) for name, size in SIZES.items()}
    assert cache.open(KEY) is None
    with cache.create(KEY, SIZES) as writer:
        assert list(writer.layout.segments) == list(SIZES)
        payload = np.zeros(writer.layout.payload_bytes, np.uint8)
        for name, place in writer.layout.segments.items():
            payload[place.offset : place.offset + place.size] = contents[name]
        writer.commit(payload)
    found = read(cache)
    assert list(found) == list(SIZES)
    for name, content in contents.items():
        np.testing.assert_array_equal(found[name], content)


def test_only_the_owner_can_read(cache: PackedCache) -> None:
    cache.folder.mkdir(parents=True, mode=0o755)
    previous = os.umask(0)
    try:
        path = fill(cache)
    finally:
        os.umask(previous)
    assert cache.folder.stat().st_mode & 0o777 == 0o700
    assert path.stat().st_mode & 0o777 == 0o600


def test_all_forms_of_a_checkpoint_are_forgotten_at_once(cache: PackedCache) -> None:
    assert cache.forget(KEY.digest) == 0
    exact, other = dataclasses.replace(KEY, policy="exact"), dataclasses.replace(KEY, digest="e" * 64)
    sizes = [fill(cache, key).stat().st_size for key in (KEY, exact, other)]
    assert cache.forget(KEY.digest) == sum(sizes[:2])
    assert (has(cache, KEY), has(cache, exact), has(cache, other)) == (False, False, True)


OTHER_KEYS: dict[str, dict[str, object]] = {
    "digest": {"digest": "e" * 64},
    "policy": {"policy": "exact"},
    "layout": {"layout": "avx2-2"},
    "rank": {"rank": 1},
}


@pytest.mark.parametrize("field", OTHER_KEYS)
def test_another_key_is_another_file(cache: PackedCache, field: str) -> None:
    fill(cache)
    other = dataclasses.replace(KEY, **OTHER_KEYS[field])  # type: ignore[arg-type]
    assert cache.open(other) is None
    fill(cache, other, value=9)
    for key, value in [(KEY, 7), (other, 9)]:
        assert (read(cache, key)["data"] == value).all()


def test_a_file_of_another_key_under_this_name(cache: PackedCache) -> None:
    other = dataclasses.replace(KEY, rank=1)
    os.rename(fill(cache, other), cache.folder / f"{KEY.file_stem()}.pack")
    assert cache.open(KEY) is None
    assert files(cache) == []


def test_another_format_version_is_stale(cache: PackedCache, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fill(cache)
    monkeypatch.setattr(packed_format, "FORMAT_VERSION", 2)
    assert cache.open(KEY) is None  # another name
    os.rename(path, cache.folder / f"{KEY.file_stem()}.pack")
    assert cache.open(KEY) is None
    assert files(cache) == []


def _truncate(path: Path, length: int) -> None:
    os.truncate(path, length)


def _overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def _replace_by_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGE: dict[str, Callable[[Path], None]] = {
    "empty": lambda path: _truncate(path, 0),
    "half a preamble": lambda path: _truncate(path, 32),
    "half a header": lambda path: _truncate(path, 100),
    "one byte short": lambda path: _truncate(path, path.stat().st_size - 1),
    "one byte long": lambda path: _truncate(path, path.stat().st_size + 1),
    "magic": lambda path: _overwrite(path, 0, b"X"),
    "version": lambda path: _overwrite(path, 8, b"\x09"),
    "header length": lambda path: _overwrite(path, 12, b"\xff\xff\xff\xff"),
    "file size": lambda path: _overwrite(path, 16, b"\1"),
    "checksum": lambda path: _overwrite(path, 24, bytes(32)),
    "header": lambda path: _overwrite(path, 70, b"\0"),
    "writable by others": lambda path: path.chmod(0o620),
    "a directory": _replace_by_directory,
    "a pipe": _replace_by_pipe,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_removed_and_can_be_made_again(cache: PackedCache, damage: str) -> None:
    path = fill(cache)
    open_before = _num_open_files(cache)
    DAMAGE[damage](path)
    assert cache.open(KEY) is None
    if path.is_dir():
        path.rmdir()  # nothing of ours: left to its owner
    assert files(cache) == [] and _num_open_files(cache) == open_before
    fill(cache)
    assert has(cache)


def test_a_symbolic_link_is_not_followed(cache: PackedCache, tmp_path: Path) -> None:
    path = fill(cache)
    os.rename(path, tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert cache.open(KEY) is None
    assert (tmp_path / "elsewhere").exists()


HEADERS: dict[str, Callable[[dict[str, object]], object]] = {
    "not an object": lambda _: [],
    "no sizes": lambda header: {"key": header["key"]},
    "negative size": lambda header: {**header, "sizes": [["data", -64], ["more", 1128]]},
    "twice the same name": lambda header: {**header, "sizes": [["data", 1000], ["data", 0]]},
    "past the end": lambda header: {**header, "sizes": [["data", 10**18]]},
    "short of the end": lambda header: {**header, "sizes": [["data", 0]]},
    "no numbers": lambda header: {**header, "sizes": [["data", "x"]]},
    "no pairs": lambda header: {**header, "sizes": [["data"]]},
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_with_a_valid_checksum_is_checked_too(cache: PackedCache, name: str) -> None:
    path = fill(cache)
    data = path.read_bytes()
    length = struct.unpack_from("<I", data, 12)[0]
    header = json.dumps(HEADERS[name](json.loads(data[64 : 64 + length]))).encode()
    preamble = struct.pack("<8sIIQ32s8x", b"LEPTONPK", 1, len(header), len(data), hashlib.sha256(header).digest())
    path.write_bytes((preamble + header).ljust(len(data), b"\0"))
    assert cache.open(KEY) is None and not path.exists()


def test_leaving_without_commit_leaves_nothing(cache: PackedCache) -> None:
    open_before = _num_open_files(cache)
    with cache.create(KEY, SIZES) as writer:
        assert files(cache) == [".unfinished"]
        assert writer.layout.segments["blk.0"].size == 1000
    assert files(cache) == [] and cache.open(KEY) is None
    with pytest.raises(RuntimeError, match="while packing"), cache.create(KEY, SIZES):
        raise RuntimeError("while packing")
    assert files(cache) == []
    assert _num_open_files(cache) == open_before


def test_a_writer_ends_once(cache: PackedCache) -> None:
    with cache.create(KEY, SIZES) as writer:
        payload = np.zeros(writer.layout.payload_bytes, np.uint8)
        writer.commit(payload)
        with pytest.raises(ValueError, match="committed or aborted before"):
            writer.commit(payload)
    assert has(cache)
    writer.abort()
    assert has(cache)


def test_an_open_file_outlives_its_removal(cache: PackedCache) -> None:
    path = fill(cache)
    packed = cache.open(KEY)
    assert packed is not None
    path.unlink()
    payload = read_payload(packed)
    assert (payload == 7).all()
    open_before = _num_open_files(cache)
    packed.close()
    packed.close()
    assert _num_open_files(cache) == open_before - 1


def test_writes_that_stop_short_go_on(cache: PackedCache, monkeypatch: pytest.MonkeyPatch) -> None:
    content = np.random.default_rng(1).integers(0, 256, 100_032, np.uint8)
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: pwrite(fd, data[:777], offset))
    with cache.create(KEY, {"data": len(content)}) as writer:
        writer.commit(content)
    assert np.array_equal(read(cache)["data"], content)


def _fail_with(code: int) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_an_error_before_anything_is_written(
    cache: PackedCache, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    open_before = _num_open_files(cache)
    monkeypatch.setattr(os, "posix_fallocate", _fail_with(code))
    with pytest.raises(StorageError, match=rf"cannot reserve \d+ bytes: {os.strerror(code)}"):
        cache.create(KEY, SIZES)
    assert files(cache) == [] and _num_open_files(cache) == open_before


def test_a_file_size_limit_of_the_system(cache: PackedCache) -> None:
    """The same without a stand-in: the kernel refuses the reservation."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(StorageError, match=r"cannot reserve \d+ bytes: File too large"):
            cache.create(KEY, {"data": 2 << 20})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files(cache) == []


@pytest.mark.parametrize("function", ["pwrite", "fsync", "rename"])
def test_a_commit_that_fails_leaves_nothing(cache: PackedCache, monkeypatch: pytest.MonkeyPatch, function: str) -> None:
    with cache.create(KEY, SIZES) as writer:
        monkeypatch.setattr(os, function, _fail_with(errno.EIO))
        with pytest.raises(StorageError, match="cannot be written: Input/output error"):
            writer.commit(np.zeros(writer.layout.payload_bytes, np.uint8))
    assert files(cache) == []


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_a_read_only_home(cache: PackedCache, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    monkeypatch.setattr(os, "mkdir", _fail_with(code))
    assert cache.open(KEY) is None
    with pytest.raises(StorageError, match=f"cannot write the packed cache: {os.strerror(code)}"):
        cache.create(KEY, SIZES)


def test_a_read_only_home_still_serves_what_it_holds(cache: PackedCache, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fill(cache)
    for function in ("utime", "unlink"):
        monkeypatch.setattr(os, function, _fail_with(errno.EROFS))
    assert (read(cache)["data"] == 7).all()
    _truncate(path, 10)
    assert cache.open(KEY) is None


def test_a_home_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "home").touch()
    with pytest.raises(StorageError, match="cannot write the packed cache"):
        PackedCache(tmp_path / "home").create(KEY, SIZES)


def test_segments_start_at_cache_lines() -> None:
    layout = packed_format.lay_out(KEY, SIZES)
    assert [segment.offset for segment in layout.segments.values()] == [0, 1024, 1024, 1088]
    assert layout.payload_bytes == 1152 and layout.payload_offset % 64 == 0
    assert layout.num_bytes == layout.payload_offset + 1152
    assert packed_format.check_head(layout.head, KEY, layout.num_bytes) == layout
