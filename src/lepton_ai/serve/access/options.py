"""Who may use the server, as its operator says."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lepton_ai.errors import InvalidRequest
from lepton_ai.serve.access.keys import KeyRing
from lepton_ai.serve.access.tls import Tls

ANY_ORIGIN = "*"

_ORIGIN = re.compile(r"https?://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessOptions:
    """``keys`` None lets everyone in who reaches the port from this machine. ``cors_origins`` are the sites whose pages
    may use the server from a browser, ``*`` any. ``tls`` None speaks plain HTTP. ``log`` is the path of the access log,
    or ``-`` for standard error.

    Raises InvalidRequest for an origin that no browser would send.
    """

    keys: KeyRing | None = None
    cors_origins: tuple[str, ...] = ()
    tls: Tls | None = None
    log: str | None = None

    def __post_init__(self) -> None:
        for origin in self.cors_origins:
            if origin != ANY_ORIGIN and _ORIGIN.fullmatch(origin) is None:
                raise InvalidRequest(
                    f"cors_origin: expected * or one such as https://chat.example.com, got {origin!r:.80}",
                    param="cors_origin",
                )
