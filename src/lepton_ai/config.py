"""Frozen configuration objects and the environment variables of Lepton. Imports nothing else of ours but errors."""

from __future__ import annotations

import enum
import os
from dataclasses import dataclass
from pathlib import Path

from lepton_ai.errors import InvalidRequest


class Policy(enum.Enum):
    """Precision policy: see docs/architecture.md.

    ``exact``: weights as stored, f32 activations and KV. ``auto``: weights as stored; 8-bit activations where weights
    have at most 8 bits; f16 KV. ``fast``: like ``auto``, and wider weights are quantised to 8 bits when loaded.
    """

    EXACT = "exact"
    AUTO = "auto"
    FAST = "fast"

    @classmethod
    def parse(cls, value: str | Policy) -> Policy:
        """A policy from its name. Raises InvalidRequest for any other string."""
        try:
            return cls(value)
        except ValueError:
            names = ", ".join(p.value for p in cls)
            raise InvalidRequest(f"policy: expected one of {names}, got {value!r}", param="policy") from None


@dataclass(frozen=True, slots=True)
class Limits:
    """The maxima of a plan: they size the activation arena.

    Counts of tokens, rows and sequences are per step; ``max_model_len`` is the most tokens of one sequence.
    """

    max_tokens: int = 512
    max_rows: int = 64
    max_seqs: int = 64
    max_model_len: int = 32768


@dataclass(frozen=True, slots=True)
class Environment:
    """The environment variables that Lepton reads, typed, all of them. Documented in docs/configuration.md."""

    home: Path
    num_threads: int | None
    cpu_isa: str | None
    index_url: str | None
    api_key: str | None = None

    @classmethod
    def read(cls) -> Environment:
        """Read them now. Raises InvalidRequest for a value that does not parse."""
        home = os.environ.get("LEPTON_HOME")
        threads = os.environ.get("LEPTON_NUM_THREADS")
        if threads is not None and not (threads.isdigit() and int(threads) > 0):
            raise InvalidRequest(
                f"LEPTON_NUM_THREADS: expected a positive integer, got {threads!r}", param="LEPTON_NUM_THREADS"
            )
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        return cls(
            home=Path(home).expanduser() if home else cache / "lepton",
            num_threads=int(threads) if threads else None,
            cpu_isa=os.environ.get("LEPTON_CPU_ISA") or None,
            index_url=os.environ.get("LEPTON_INDEX_URL") or None,
            api_key=os.environ.get("LEPTON_API_KEY") or None,
        )
