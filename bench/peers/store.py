"""What was measured, kept between runs: a file for each case and for each thing that it depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.peers.pairs import PairedRates
from bench.serving import EngineInfo
from lepton_ai.weights.files import replace_file

Facts = Mapping[str, object]
"""What a measurement depends on, for JSON."""


@dataclass(frozen=True, slots=True)
class Contender:
    """An engine that was measured. ``quality`` is KL(exact || engine), mean nats a token, or an encoder's least cosine
    with f32; None where it was not measured. ``setting`` is the one of several that was taken, ``trials`` are the rates
    of all.
    """

    info: EngineInfo
    quality: float | None = None
    setting: str = ""
    trials: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Measurement:
    """A case, measured. Bits of the file are None where it is a folder. ``date`` is a day, in UTC."""

    ours: Contender
    theirs: Contender
    rates: PairedRates
    digest: str
    body_bits: float | None
    head_bits: float | None
    date: str
    elapsed_s: float


class Store:
    """A folder of JSON files: ``case-key.json``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, case: str, facts: Facts) -> Measurement | None:
        """What was measured of a case where all that it depends on was the same."""
        entry = self._read(self._path(case, facts))
        return None if entry is None else _measurement(entry)

    def add(self, case: str, facts: Facts, measurement: Measurement) -> None:
        """Keep it."""
        path = self._path(case, facts)
        self._folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"case": case, "facts": facts, **asdict(measurement)}, indent=2)
        replace_file(path, f"{text}\n".encode())

    def last_elapsed_s(self, case: str) -> float | None:
        """How long the case took when it was last measured, whatever it depended on."""
        paths = sorted(self._folder.glob(f"{_slug(case)}@*.json"), key=lambda path: path.stat().st_mtime)
        entries = [entry for path in reversed(paths) if (entry := self._read(path)) is not None]
        return float(entries[0]["elapsed_s"]) if entries else None

    def _path(self, case: str, facts: Facts) -> Path:
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        return self._folder / f"{_slug(case)}@{digest[:16]}.json"

    @staticmethod
    def _read(path: Path) -> dict[str, Any] | None:
        try:
            entry: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return entry


def _slug(case: str) -> str:
    return case.replace("/", "_")


def _measurement(entry: dict[str, Any]) -> Measurement:
    fields = {name: entry[name] for name in ("digest", "body_bits", "head_bits", "date", "elapsed_s")}
    rates = PairedRates(tuple(entry["rates"]["ours"]), tuple(entry["rates"]["theirs"]))
    return Measurement(_contender(entry["ours"]), _contender(entry["theirs"]), rates, **fields)


def _contender(entry: dict[str, Any]) -> Contender:
    return Contender(EngineInfo(**entry["info"]), entry["quality"], entry["setting"], entry["trials"])
