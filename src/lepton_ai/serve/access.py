"""Who may use the server: API keys, of which only digests are kept.

A key is 256 random bits, so that its SHA-256 tells nothing; digests are compared in constant time, all of them.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lepton_ai.errors import InvalidRequest, LeptonError

_PREFIX = "sk-lepton-"
_MIN_SECRET = 32
_OPEN_PATHS = frozenset(("/health", "/ready"))


class Unauthorized(LeptonError):
    """No key, or one that is not known."""

    status, code = 401, "invalid_api_key"


@dataclass(frozen=True, slots=True)
class Key:
    """Whose key it is, and the SHA-256 of it, in hex."""

    name: str
    sha256: str


class KeyRing:
    """The keys that are let in."""

    def __init__(self, keys: Iterable[Key]) -> None:
        self._keys = tuple(keys)

    @classmethod
    def read(cls, path: Path) -> KeyRing:
        """From a file ``{"keys": [{"name": ..., "sha256": ...}]}``. Raises InvalidRequest for any other."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InvalidRequest(f"{path}: expected a file of keys: {error}", param="api_keys") from None
        entries = content.get("keys") if isinstance(content, dict) else None
        if not isinstance(entries, list) or not entries:
            raise InvalidRequest(f"{path}: expected keys, a list that is not empty", param="api_keys")
        return cls(_key(entry, f"{path}: keys[{i}]") for i, entry in enumerate(entries))

    @classmethod
    def of_secret(cls, secret: str, name: str = "default") -> KeyRing:
        """Of one key. Raises InvalidRequest for one that could be guessed."""
        if len(secret) < _MIN_SECRET:
            raise InvalidRequest(f"api_key: expected at least {_MIN_SECRET} characters", param="api_key")
        return cls([Key(name, digest(secret))])

    def owner(self, authorization: str | None) -> str:
        """Whose key a header ``Authorization: Bearer KEY`` has. Raises Unauthorized."""
        scheme, _, secret = (authorization or "").partition(" ")
        presented = digest(secret.strip())
        owner = None
        for key in self._keys:
            if hmac.compare_digest(key.sha256, presented):
                owner = key.name
        if owner is None or scheme.lower() != "bearer":
            raise Unauthorized("authorization: expected a known key: Authorization: Bearer KEY")
        return owner


def digest(secret: str) -> str:
    """What is kept of a key."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def new_secret() -> str:
    """A key that nobody has."""
    return _PREFIX + secrets.token_urlsafe(32)


def needs_key(path: str) -> bool:
    """Whether a path is closed to those without one."""
    return path not in _OPEN_PATHS


def _key(entry: object, place: str) -> Key:
    match entry:
        case {"name": str(name), "sha256": str(sha256), **rest} if name and not rest:
            if len(sha256) == 64 and not set(sha256) - set("0123456789abcdef"):
                return Key(name, sha256)
    raise InvalidRequest(f"{place}: expected a name and a sha256 in hex, and nothing else", param="api_keys")


def headers_of(raw: Iterable[tuple[bytes, bytes]]) -> Mapping[str, str]:
    """Headers by their names in lower case; of one that is there twice, the last."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in raw}
