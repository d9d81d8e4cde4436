"""SHA-256 of files, remembered by the identity of the file so that a start does not read all weights again."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import time
from pathlib import Path
from typing import Final

from lepton_ai.errors import InvalidModel
from lepton_ai.weights.files import replace_file

_MEMO_NAME: Final = "digests.json"
_MAX_REMEMBERED: Final = 256
_READ_BYTES: Final = 1 << 20
_SETTLED_NS: Final = 50_000_000
"""A file that changed less than this before it was read could change again within one tick of the file system's clock,
unseen; its digest is not remembered."""

_Identity = list[int]


def file_digest(file: io.FileIO, *, home: Path | None, label: str) -> str:
    """Hex SHA-256 of the whole of ``file``, from the memo under ``home`` when the file is the one remembered there.

    A file is the same one if device, inode, size, modification and change time are. A home that cannot be written is
    tolerated: the digest is then computed each time. Raises InvalidModel if the file changes while it is read.
    """
    identity = _identity(file)
    remembered = {} if home is None else _read_memo(home)
    if (digest := _lookup(remembered, identity)) is not None:
        return digest
    started_ns = time.time_ns()
    digest = _hash(file)
    if _identity(file) != identity:
        raise InvalidModel(f"{label}: the file changed while it was read", param="model")
    if home is not None and started_ns - identity[-1] >= _SETTLED_NS:
        _write_memo(home, identity, digest)
    return digest


def _identity(file: io.FileIO) -> _Identity:
    status = os.fstat(file.fileno())
    return [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _hash(file: io.FileIO) -> str:
    # Read, not mapped: mapped pages would count as memory of this process.
    # By offset: another thread may read the same open file, and move its position.
    sha = hashlib.sha256()
    buffer = memoryview(bytearray(_READ_BYTES))
    offset = 0
    while size := os.preadv(file.fileno(), [buffer], offset):
        sha.update(buffer[:size])
        offset += size
    return sha.hexdigest()


def _entry_name(identity: _Identity) -> str:
    return f"{identity[0]}:{identity[1]}"


def _lookup(remembered: dict[str, object], identity: _Identity) -> str | None:
    entry = remembered.get(_entry_name(identity))
    if not isinstance(entry, dict) or entry.get("identity") != identity:
        return None
    digest = entry.get("sha256")
    return digest if isinstance(digest, str) and len(digest) == 64 else None


def _read_memo(home: Path) -> dict[str, object]:
    try:
        memo = json.loads((home / _MEMO_NAME).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return memo if isinstance(memo, dict) else {}


def _write_memo(home: Path, identity: _Identity, digest: str) -> None:
    """Add one entry, the oldest ones leaving. Of two processes that write at once one entry may be lost: no harm."""
    with contextlib.suppress(OSError):
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        memo = _read_memo(home)
        memo.pop(_entry_name(identity), None)
        kept = list(memo.items())[-(_MAX_REMEMBERED - 1) :]
        text = json.dumps({**dict(kept), _entry_name(identity): {"identity": identity, "sha256": digest}})
        replace_file(home / _MEMO_NAME, text.encode())
