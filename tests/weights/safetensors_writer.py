"""Safetensors files made by hand: whatever header, whatever payload. Good files come from the format's own library."""

from __future__ import annotations

import json
from collections.abc import Mapping


def encode_safetensors(header: Mapping[str, object] | str, payload: bytes = b"") -> bytes:
    """A file with this header, given as JSON or as what becomes JSON."""
    text = header if isinstance(header, str) else json.dumps(header)
    encoded = text.encode("utf-8")
    return len(encoded).to_bytes(8, "little") + encoded + payload
