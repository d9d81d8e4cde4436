"""The outer bounds of the server: bytes, seconds and connections."""

from __future__ import annotations

from dataclasses import dataclass, fields

from lepton_ai.errors import InvalidRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much a client may send, and how long it may take.

    ``head_s`` is for the request line and headers, from the first byte or from the connection on; ``body_s`` for the
    body; ``idle_s`` between two requests; ``read_s`` is how long a client may leave an answer unread that waits for it.

    Raises InvalidRequest for any that is not positive.
    """

    max_body_bytes: int = 4 << 20
    max_head_bytes: int = 32 << 10
    max_headers: int = 100
    max_connections: int = 512
    head_s: float = 10
    body_s: float = 60
    read_s: float = 60
    idle_s: float = 75

    def __post_init__(self) -> None:
        for each in fields(self):
            if not getattr(self, each.name) > 0:
                raise InvalidRequest(f"{each.name}: expected more than 0", param=each.name)


class TooLarge(InvalidRequest):
    """A body is larger than the server takes."""

    status, code = 413, "body_too_large"


class HeadTooLarge(InvalidRequest):
    """A request's line and headers are larger, or more, than the server takes."""

    status, code = 431, "headers_too_large"


class TooSlow(InvalidRequest):
    """A request has not come in the time that it may take."""

    status, code = 408, "request_timeout"


class UnsupportedBody(InvalidRequest):
    """A body is not JSON, by what its headers say; or compressed: how large it would become is known too late."""

    status, code = 415, "unsupported_body"
