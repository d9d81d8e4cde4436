"""Whose a request is, and how urgent: validated when it is said."""

from __future__ import annotations

from dataclasses import dataclass

from lepton_ai.errors import InvalidRequest

_MAX_TENANT_CHARACTERS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestOptions:
    """Whose a request is, and how urgent; a bad value raises InvalidRequest.

    ``priority`` from -100 to 100: the lower, the sooner. ``tenant``: requests of one are served in turn with those of
    others, and share cached prefixes with nobody else.
    """

    priority: int = 0
    tenant: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.priority, bool) or not isinstance(self.priority, int) or not -100 <= self.priority <= 100:
            raise InvalidRequest(
                f"priority: expected an integer from -100 to 100, got {self.priority!r:.40}", param="priority"
            )
        if not isinstance(self.tenant, str) or len(self.tenant) > _MAX_TENANT_CHARACTERS:
            raise InvalidRequest(
                f"tenant: expected a string of at most {_MAX_TENANT_CHARACTERS} characters", param="tenant"
            )
