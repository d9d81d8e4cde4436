"""How far an engine's predictions lie from those of Lepton's policy ``exact`` on the same file and text."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from bench.serving import BenchEngine, EngineInfo
from lepton_ai.engine.quality import Divergence, DivergenceMeter, log_softmax


def measure_divergence(engine: BenchEngine, exact: BenchEngine, windows: Sequence[Sequence[int]]) -> Divergence:
    """Over every position of ``windows``. Holds one piece of logits of each engine at a time."""
    meter = DivergenceMeter()
    for window in windows:
        for piece, expected in zip(engine.logits(window), exact.logits(window), strict=True):
            meter.add(log_softmax(piece), log_softmax(expected))
    return meter.result()


class DivergenceCache:
    """Divergences measured before, in a JSON file, by engine, model file and text."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def find(self, key: str) -> Divergence | None:
        """What was measured under ``key``."""
        entry = self._read().get(key)
        return None if entry is None else Divergence(**entry)

    def add(self, key: str, divergence: Divergence) -> None:
        """Keep a measurement."""
        entries = self._read() | {key: asdict(divergence)}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        part = self._path.with_suffix(f".{os.getpid()}.part")
        part.write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")
        os.replace(part, self._path)

    def _read(self) -> dict[str, dict[str, float]]:
        try:
            entries: dict[str, dict[str, float]] = json.loads(self._path.read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return {}
        return entries


def cache_key(engine: EngineInfo, exact: EngineInfo, *, model_digest: str, text_digest: str, num_tokens: int) -> str:
    """What a divergence depends on."""
    return f"{engine.fingerprint}/{exact.fingerprint}/{model_digest}/{text_digest}/{num_tokens}"
