"""The file of keys: read, checked, written, and read again when it changes."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable
from dataclasses import fields
from datetime import date
from pathlib import Path

from lepton_ai.errors import InvalidRequest, StorageError
from lepton_ai.serve.access.keys import Key, KeyRing
from lepton_ai.serve.access.limits import Limits
from lepton_ai.serve.access.scopes import DEFAULT_SCOPES, Scope
from lepton_ai.weights.files import replace_file

_MAX_BYTES = 4 << 20
_POLL_S = 1.0
_FIELDS = frozenset(("name", "sha256", "scopes", "limits", "expires"))
_LIMITS = tuple(each.name for each in fields(Limits))
_LOG = logging.getLogger(__name__)


def read_keys(path: Path, *, may_be_empty: bool = False) -> list[Key]:
    """The keys of a file ``{"keys": [{"name": ..., "sha256": ..., ...}]}``.

    Raises InvalidRequest for any other, and says where it is wrong, never what stands there.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise _wrong(f"{path}: expected at most {_MAX_BYTES} bytes")
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _wrong(f"{path}: expected a file of keys: {error.strerror or error}") from None
    except json.JSONDecodeError as error:
        raise _wrong(f"{path}: expected JSON: {error.msg}, line {error.lineno}") from None
    except (ValueError, RecursionError):
        raise _wrong(f"{path}: expected JSON in UTF-8") from None
    entries = content.get("keys") if isinstance(content, dict) and len(content) == 1 else None
    if not isinstance(entries, list):
        raise _wrong(f"{path}: expected one field, keys, a list")
    if not entries and not may_be_empty:
        raise _wrong(f"{path}: expected at least one key")
    keys = [parse_key(entry, f"{path}: keys[{i}]") for i, entry in enumerate(entries)]
    for field in ("name", "sha256"):
        if len({getattr(key, field) for key in keys}) < len(keys):
            raise _wrong(f"{path}: expected each {field} once")
    return keys


def write_keys(path: Path, keys: Iterable[Key]) -> None:
    """Put these in the place of what the file holds, at once: who reads it finds the old ones or the new ones.

    A new file is its owner's alone. Raises StorageError.
    """
    target = path.resolve()  # a link stays one
    text = json.dumps({"keys": [describe_key(key) for key in keys]}, indent=2) + "\n"
    try:
        mode = target.stat().st_mode & 0o777 if target.exists() else 0o600
        replace_file(target, text.encode(), mode=mode, is_durable=True)
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror or error}", param="file") from None


def parse_key(entry: object, place: str) -> Key:
    """A key as a file has it. Raises InvalidRequest, which says where in ``place`` it is wrong."""
    if not isinstance(entry, dict) or set(entry) - _FIELDS:
        raise _wrong(f"{place}: expected name and sha256, perhaps scopes, limits and expires, and nothing else")
    name, sha256 = entry.get("name"), entry.get("sha256")
    if not isinstance(name, str) or not isinstance(sha256, str):
        raise _wrong(f"{place}: expected a name and a sha256")
    if not (0 < len(name) <= 64 and name.isprintable()):
        raise _wrong(f"{place}.name: expected at most 64 characters that can be printed")
    if len(sha256) != 64 or set(sha256) - set("0123456789abcdef"):
        raise _wrong(f"{place}.sha256: expected 64 digits in hex, in lower case")
    return Key(
        name,
        sha256,
        scopes=_scopes(entry["scopes"], f"{place}.scopes") if "scopes" in entry else DEFAULT_SCOPES,
        limits=_limits(entry.get("limits", {}), f"{place}.limits"),
        expires=_date(entry["expires"], f"{place}.expires") if "expires" in entry else None,
    )


def describe_key(key: Key) -> dict[str, object]:
    """The same as ``parse_key`` takes it."""
    limits = {name: getattr(key.limits, name) for name in _LIMITS}
    entry: dict[str, object] = {"name": key.name, "sha256": key.sha256}
    entry["scopes"] = [scope.value for scope in Scope if scope in key.scopes]
    if key.limits.is_limited:
        entry["limits"] = {name: limit for name, limit in limits.items() if limit is not None}
    if key.expires is not None:
        entry["expires"] = key.expires.isoformat()
    return entry


class WatchedKeys(KeyRing):
    """The keys of a file, read again when it changes. A file that is broken then leaves the keys as they were.

    Raises InvalidRequest for one that is broken from the start.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = _signature(path)  # before it is read: what changes meanwhile is read again
        super().__init__(read_keys(path))

    async def watch(self, every_s: float = _POLL_S) -> None:
        """Look after the file for ever. The disk may be slow, so another thread does."""
        while True:
            await asyncio.sleep(every_s)
            if await asyncio.to_thread(_signature, self._path) != self._seen:
                await asyncio.to_thread(self.reload)

    def reload(self) -> None:
        """Read the file now. What is wrong with it is logged."""
        self._seen = _signature(self._path)
        try:
            self.replace(read_keys(self._path))
        except InvalidRequest as error:
            _LOG.error("keys are not reloaded, the %d from before stay: %s", len(self), error.message)
        else:
            _LOG.info("keys are reloaded: %s now has %d", self._path, len(self))


def _signature(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def _scopes(value: object, place: str) -> frozenset[Scope]:
    known = {scope.value: scope for scope in Scope}
    if not isinstance(value, list) or not value or not all(isinstance(each, str) and each in known for each in value):
        raise _wrong(f"{place}: expected a list of {', '.join(known)}")
    return frozenset(known[each] for each in value)


def _limits(value: object, place: str) -> Limits:
    if not isinstance(value, dict) or set(value) - set(_LIMITS):
        raise _wrong(f"{place}: expected {' and '.join(_LIMITS)}, and nothing else")
    for name, limit in value.items():
        if type(limit) is not int or not 1 <= limit <= 10**12:
            raise _wrong(f"{place}.{name}: expected an integer of at least 1")
    return Limits(**value)


def _date(value: object, place: str) -> date:
    try:
        made = date.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        made = None
    if made is None or made.isoformat() != value:
        raise _wrong(f"{place}: expected the last day that the key is good, such as 2030-12-31")
    return made


def _wrong(message: str) -> InvalidRequest:
    return InvalidRequest(message, param="api_keys")
