"""Server-sent events, as bytes."""

from __future__ import annotations

DONE = b"data: [DONE]\n\n"
"""The mark of a stream's end."""


def event(*parts: bytes) -> bytes:
    """One event with a JSON text, in parts."""
    return b"".join((b"data: ", *parts, b"\n\n"))
