"""How much a key may use."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class Limits:
    """What a key may use in a minute; None is without bound."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None

    @property
    def is_limited(self) -> bool:
        """Whether there is any bound."""
        return any(getattr(self, each.name) is not None for each in fields(self))


NO_LIMITS = Limits()
