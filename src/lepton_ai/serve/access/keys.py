"""API keys, of which only digests are kept.

A key is 256 random bits, so that its SHA-256 tells nothing; digests are compared in constant time, all of them,
whatever comes.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, datetime, timezone

from lepton_ai.errors import InvalidRequest, LeptonError
from lepton_ai.serve.access.limits import NO_LIMITS, Limits
from lepton_ai.serve.access.scopes import DEFAULT_SCOPES, Scope

_PREFIX = "sk-lepton-"
_MIN_SECRET = 32


class Unauthorized(LeptonError):
    """No key, or one that is not known, or not any more."""

    status, code = 401, "invalid_api_key"


@dataclass(frozen=True, slots=True)
class Key:
    """Whose key it is, the SHA-256 of it in hex, what it opens, how much, and the last day that it does, in UTC."""

    name: str
    sha256: str
    scopes: frozenset[Scope] = DEFAULT_SCOPES
    limits: Limits = NO_LIMITS
    expires: date | None = None


class KeyRing:
    """The keys that are let in. ``today`` is the day in UTC."""

    def __init__(self, keys: Iterable[Key], *, today: Callable[[], date] | None = None) -> None:
        self._keys = tuple(keys)
        self._today = today or _utc_today

    @classmethod
    def of_secret(cls, secret: str, name: str = "default") -> KeyRing:
        """Of one key, which opens everything. Raises InvalidRequest for one that could be guessed."""
        if len(secret) < _MIN_SECRET:
            raise InvalidRequest(f"api_key: expected at least {_MIN_SECRET} characters", param="api_key")
        return cls([Key(name, digest(secret), frozenset(Scope))])

    def __len__(self) -> int:
        return len(self._keys)

    def replace(self, keys: Iterable[Key]) -> None:
        """Let these in from now on, and no others."""
        self._keys = tuple(keys)

    def find(self, authorization: str | None) -> Key:
        """That of a header ``Authorization: Bearer KEY``. Raises Unauthorized."""
        scheme, _, secret = (authorization or "").partition(" ")
        presented = digest(secret.strip())
        found = None
        for key in self._keys:
            if hmac.compare_digest(key.sha256, presented):
                found = key
        if found is None or scheme.lower() != "bearer":
            raise Unauthorized("authorization: expected a known key: Authorization: Bearer KEY")
        if found.expires is not None and self._today() > found.expires:
            raise Unauthorized(f"authorization: expected a key that has not expired, this one has on {found.expires}")
        return found


def digest(secret: str) -> str:
    """What is kept of a key."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def new_secret() -> str:
    """A key that nobody has."""
    return _PREFIX + secrets.token_urlsafe(32)


def _utc_today() -> date:
    return datetime.now(timezone.utc).date()
