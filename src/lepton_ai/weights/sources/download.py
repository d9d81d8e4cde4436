"""One file from an index to the disk: in pieces, resumable, checked."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lepton_ai.errors import DigestMismatch, DownloadFailed
from lepton_ai.weights.sources.index import Link
from lepton_ai.weights.sources.storage import is_full, storage_errors
from lepton_ai.weights.sources.transport import Response, TransferError, Transport
from lepton_ai.weights.sources.urls import host_of, local_path, mask

_CHUNK_BYTES = 1 << 18
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class Hash(Protocol):
    """What of a hashlib object is used."""

    def update(self, data: bytes, /) -> None:
        """Take in more bytes."""
        ...

    def hexdigest(self) -> str:
        """The digest of all so far."""
        ...


@dataclass(frozen=True, slots=True)
class PartFile:
    """The part of a download that has arrived, and beside it the ETag of what it is a part of."""

    path: Path

    @property
    def etag_path(self) -> Path:
        """Where the ETag lies, if the server gave a strong one."""
        return self.path.with_name(self.path.name + ".etag")

    def size(self) -> int:
        """Bytes that have arrived."""
        return self.path.stat().st_size if self.path.exists() else 0

    def etag(self) -> str | None:
        """The strong ETag of the whole."""
        return self.etag_path.read_text(encoding="latin-1") if self.etag_path.exists() else None

    def restart(self, etag: str | None) -> None:
        """Empty the file; what arrives from now on belongs to ``etag``. A weak one identifies no bytes (RFC 9110)."""
        self.path.write_bytes(b"")
        if etag and not etag.startswith("W/") and etag.isprintable():
            self.etag_path.write_text(etag, encoding="latin-1")
        else:
            self.etag_path.unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove both files."""
        self.path.unlink(missing_ok=True)
        self.etag_path.unlink(missing_ok=True)


def fetch(transport: Transport, link: Link, part: PartFile, *, max_bytes: int, on_bytes: Callable[[int], None]) -> None:
    """Complete ``part`` with what ``link`` names, and check it against the link's sha256.

    ``on_bytes`` gets the number of bytes that are there, after each piece; it falls when a transfer starts over.
    Interrupted transfers are taken up again where they stopped, also those of an earlier process. Raises
    DownloadFailed, DigestMismatch (nothing is left then), or StorageError.
    """
    while True:
        with storage_errors(part.path):
            if part.size() and link.sha256 is None and part.etag() is None:
                part.discard()  # nothing says whether the rest would be of the same file
            is_resumed = part.size() > 0
        _receive(transport, link, part, max_bytes=max_bytes, on_bytes=on_bytes)
        actual = sha256_of(part.path) if link.sha256 else None
        if actual == link.sha256:
            return
        with storage_errors(part.path):
            part.discard()
        if not is_resumed:
            raise DigestMismatch(
                f"{mask(link.url)}: expected sha256 {link.sha256}, got {actual}; the index or a proxy altered the file"
            )


def obtain(
    transport: Transport, link: Link, part: PartFile, *, max_bytes: int, on_bytes: Callable[[int], None]
) -> PartFile | Path:
    """What ``link`` names as a download, or as a file of a local index, which is not ours to delete.

    Raises like ``fetch``.
    """
    if (path := local_path(link.url)) is None:
        fetch(transport, link, part, max_bytes=max_bytes, on_bytes=on_bytes)
        return part
    if link.sha256 is not None and (actual := sha256_of(path)) != link.sha256:
        raise DigestMismatch(f"{path}: expected sha256 {link.sha256}, got {actual}")
    return path


def sha256_of(path: Path) -> str:
    """Hex digest of a file."""
    digest = hashlib.sha256()
    hash_file(path, digest)
    return digest.hexdigest()


def hash_file(path: Path, digest: Hash) -> None:
    """Feed a file to ``digest``."""
    with storage_errors(path), path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)


def _receive(
    transport: Transport, link: Link, part: PartFile, *, max_bytes: int, on_bytes: Callable[[int], None]
) -> None:
    backoff = transport.backoff()
    furthest = part.size()
    while link.size_bytes is None or part.size() != link.size_bytes:
        try:
            return _attempt(transport, link, part, max_bytes=max_bytes, on_bytes=on_bytes)
        except TransferError as error:
            if error.status == 416:  # the part is no beginning of what the server has
                with storage_errors(part.path):
                    part.discard()
                error.is_transient = True
            if part.size() > furthest:
                furthest = part.size()
                backoff.progressed()
            backoff.pause(error)


def _attempt(
    transport: Transport, link: Link, part: PartFile, *, max_bytes: int, on_bytes: Callable[[int], None]
) -> None:
    with storage_errors(part.path):
        offset, etag = part.size(), part.etag()
    headers = {"Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
        if etag:
            headers["If-Range"] = etag
    with transport.open(link.url, headers) as response:
        start, total_bytes = _span(response, offset)
        if response.header("Content-Encoding") not in (None, "identity"):
            raise DownloadFailed(f"{mask(link.url)}: the server compressed the file although it was asked not to")
        _check_length(link, total_bytes, max_bytes)
        if start == 0:
            with storage_errors(part.path):
                part.restart(response.header("ETag"))
        on_bytes(start)
        end = _append(response, part, limit_bytes=total_bytes or max_bytes, on_bytes=on_bytes)
    if total_bytes is not None and end < total_bytes:
        raise TransferError(
            f"{host_of(link.url)}: the connection broke after {end} of {total_bytes} bytes", is_transient=True
        )
    _check_length(link, end, max_bytes)


def _span(response: Response, offset: int) -> tuple[int, int | None]:
    """Where the answer's first byte belongs, and the size of the whole if the server says it."""
    if response.status != 206:
        length = response.header("Content-Length") or ""
        return 0, int(length) if length.isascii() and length.isdigit() else None
    match = _CONTENT_RANGE.fullmatch((response.header("Content-Range") or "").strip())
    if match is None or not offset or int(match[1]) != offset:
        raise DownloadFailed(f"{mask(response.url)}: the server sent another range than was asked for")
    return offset, int(match[3]) if match[3] != "*" else int(match[2]) + 1


def _check_length(link: Link, num_bytes: int | None, max_bytes: int) -> None:
    if num_bytes is not None and num_bytes > max_bytes:
        raise DownloadFailed(f"{mask(link.url)}: expected at most {max_bytes} bytes, the server has {num_bytes}")
    if None not in (num_bytes, link.size_bytes) and num_bytes != link.size_bytes:
        raise DownloadFailed(f"{mask(link.url)}: the index says {link.size_bytes} bytes, the server has {num_bytes}")


def _append(response: Response, part: PartFile, *, limit_bytes: int, on_bytes: Callable[[int], None]) -> int:
    """Append the answer's body. Returns the size then. A full disk takes the part with it: it is what fills it."""
    try:
        with storage_errors(part.path), part.path.open("ab") as file:
            end = file.tell()
            while chunk := response.read(_CHUNK_BYTES):
                end += len(chunk)
                if end > limit_bytes:
                    raise DownloadFailed(f"{mask(response.url)}: more than the announced {limit_bytes} bytes came")
                file.write(chunk)
                on_bytes(end)
            return end
    except BaseException as error:
        if isinstance(error.__cause__, OSError) and is_full(error.__cause__):
            part.discard()
        raise
