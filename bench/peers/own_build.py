"""What tells one state of Lepton from another."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from bench.worker import ROOT
from lepton_ai.backends.cpu import _native

# What a step runs through, and what makes of a file what it runs on.
_SOURCES = ("backends", "engine", "graph", "models", "text", "weights")


@cache
def own_digest(*, is_whole: bool = False) -> str:
    """Of the compiled core and of the Python that a step runs through, or of all of it: 16 hexadecimal digits."""
    digest = hashlib.sha256(Path(_native.__file__).read_bytes())
    for folder in ("",) if is_whole else _SOURCES:
        for path in sorted((ROOT / "src" / "lepton_ai" / folder).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
