"""How much a key may use: buckets that fill with time.

A bucket holds what a minute allows, and fills evenly. A request takes one, and is refused where there is none. Tokens
are taken when they are known, so that their bucket may go below empty: requests are refused until it has filled again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from lepton_ai.errors import LeptonError
from lepton_ai.serve.access.keys import Key

_MINUTE_S = 60.0

RATE_HEADERS = tuple(
    f"x-ratelimit-{what}-{of}" for of in ("requests", "tokens") for what in ("limit", "remaining", "reset")
)
"""The headers that answers under a limited key have."""


class RateLimited(LeptonError):
    """The key has used what a minute allows. ``retry_after_s`` is when there is some again."""

    status, code = 429, "rate_limit_exceeded"

    def __init__(self, message: str, *, param: str | None = None, retry_after_s: float = 1.0) -> None:
        super().__init__(message, param=param)
        self.retry_after_s = retry_after_s


class RateLimits:
    """What each key has left. ``now`` is a clock in seconds that never goes back.

    A key whose limits change keeps what it has left, as far as the new ones allow it.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._buckets: dict[tuple[str, str], _Bucket] = {}

    def admit(self, key: Key) -> None:
        """Take a request from the key's. Raises RateLimited, and takes nothing, where no request or token is left."""
        requests, tokens = self._of(key)
        for kind, bucket in (("requests", requests), ("tokens", tokens)):
            if bucket is not None and bucket.level < 1:
                raise RateLimited(
                    f"{kind}: expected at most {bucket.size} in a minute under this key",
                    retry_after_s=bucket.time_to(1),
                )
        if requests is not None:
            requests.level -= 1

    def charge(self, key: Key, num_tokens: int) -> None:
        """Take tokens that were used."""
        _, tokens = self._of(key)
        if tokens is not None:
            tokens.level -= num_tokens

    def headers(self, key: Key) -> dict[str, str]:
        """What the key may use, has left, and when it has all again; nothing of what is not limited."""
        made: dict[str, str] = {}
        for kind, bucket in zip(("requests", "tokens"), self._of(key), strict=True):
            if bucket is not None:
                made[f"x-ratelimit-limit-{kind}"] = str(bucket.size)
                made[f"x-ratelimit-remaining-{kind}"] = str(max(0, math.floor(bucket.level)))
                made[f"x-ratelimit-reset-{kind}"] = _duration(bucket.time_to(bucket.size))
        return made

    def _of(self, key: Key) -> tuple[_Bucket | None, _Bucket | None]:
        limits = key.limits
        return (
            self._bucket(key.name, "requests", limits.requests_per_minute),
            self._bucket(key.name, "tokens", limits.tokens_per_minute),
        )

    def _bucket(self, name: str, kind: str, size: int | None) -> _Bucket | None:
        if size is None:
            return None
        now = self._now()
        bucket = self._buckets.get((name, kind))
        if bucket is None:
            bucket = self._buckets[name, kind] = _Bucket(size, float(size), now)
        bucket.fill(size, now)
        return bucket


@dataclass(slots=True)
class _Bucket:
    size: int
    level: float
    filled_at: float

    def fill(self, size: int, now: float) -> None:
        """Up to ``now``, and no further than ``size``."""
        self.level = min(float(size), self.level + (now - self.filled_at) * size / _MINUTE_S)
        self.size, self.filled_at = size, now

    def time_to(self, level: float) -> float:
        """Seconds until it holds so much."""
        return max(0.0, level - self.level) * _MINUTE_S / self.size


def _duration(seconds: float) -> str:
    """As the original writes them: ``250ms``, ``1.5s``, ``6m0s``."""
    milliseconds = math.ceil(seconds * 1000 - 1e-6)
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes}m{rest / 1000:g}s" if minutes else f"{rest / 1000:g}s"
