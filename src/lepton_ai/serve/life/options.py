"""How long things may take in the life of a server."""

from __future__ import annotations

from dataclasses import dataclass, fields

from lepton_ai.errors import InvalidRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class LifeOptions:
    """Bounds on time, in seconds.

    ``request_timeout_s``: the most that a request may take, all in all. ``drain_timeout_s``: how long requests may go
    on after a SIGTERM; for at least ``drain_delay_s`` the server goes on to say that it ends. ``engine_timeout_s``: how
    long the engine may be silent. If it fails more than ``max_crashes`` times within ``crash_window_s``, the server
    gives up.

    Raises InvalidRequest for a number that is not positive; ``drain_timeout_s`` and ``drain_delay_s`` may be 0.
    """

    request_timeout_s: float = 600.0
    drain_timeout_s: float = 30.0
    drain_delay_s: float = 0.0
    engine_timeout_s: float = 60.0
    max_crashes: int = 5
    crash_window_s: float = 300.0

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if not (value > 0 or (value == 0 and each.name in ("drain_timeout_s", "drain_delay_s"))):
                raise InvalidRequest(f"{each.name}: expected a positive number, got {value}", param=each.name)
