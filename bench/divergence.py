"""How far an engine's predictions lie from those of Lepton's policy ``exact`` on the same file and text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from bench.serving import EngineInfo
from lepton_ai.engine.quality import Divergence, DivergenceMeter, log_softmax
from lepton_ai.weights.files import replace_file

_ROWS_AT_ONCE = 4
"""A row of 150,000 logits takes 1.4 ms so, and 17 with 64 at once, whose arrays are fresh memory each time."""


class Predictor(Protocol):
    """What gives the logits after each token of a sequence, in pieces ``[n, V]``."""

    def logits(self, token_ids: list[int], /) -> Iterator[npt.NDArray[np.float32]]:
        """Pieces of any sizes."""
        ...


def measure_divergences(
    engines: Sequence[Predictor], exact: Predictor, windows: Sequence[list[int]]
) -> list[Divergence]:
    """Of each engine over every position of ``windows``. Holds one piece of logits of each at a time."""
    meters = [DivergenceMeter() for _ in engines]
    for window in windows:
        others = [_Rows(engine.logits(window)) for engine in engines]
        for piece in exact.logits(window):
            for start in range(0, len(piece), _ROWS_AT_ONCE):
                expected = piece[start : start + _ROWS_AT_ONCE]
                reference = log_softmax(expected)
                for meter, rows in zip(meters, others, strict=True):
                    meter.add(log_softmax(rows.take(*expected.shape)), reference)
        for rows in others:
            rows.expect_end()
    return [meter.result() for meter in meters]


class _Rows:
    """Pieces of logits, taken in other pieces."""

    def __init__(self, pieces: Iterator[npt.NDArray[np.float32]]) -> None:
        self._pieces = pieces
        self._rest: npt.NDArray[np.float32] | None = None

    def take(self, num_rows: int, vocab_size: int) -> npt.NDArray[np.float32]:
        """The next ``[num_rows, vocab_size]``. Raises ValueError if there are fewer, or of another width."""
        taken: list[npt.NDArray[np.float32]] = []
        while num_rows:
            piece = self._rest if self._rest is not None else next(self._pieces, None)
            if piece is None or piece.shape[1] != vocab_size:
                got = "none" if piece is None else f"{piece.shape[1]}"
                raise ValueError(f"logits: expected {num_rows} more rows of {vocab_size}, got {got}")
            taken.append(piece[:num_rows])
            self._rest = piece[num_rows:] if len(piece) > num_rows else None
            num_rows -= len(taken[-1])
        return np.concatenate(taken)

    def expect_end(self) -> None:
        """Raise ValueError if there are more."""
        if self._rest is not None or next(self._pieces, None) is not None:
            raise ValueError("logits: expected no more rows than the reference has")


@dataclass(frozen=True, slots=True)
class MeasuredOn:
    """What a divergence depends on, apart from the engine: the reference, the model file, the text."""

    exact: EngineInfo
    model_digest: str
    text_digest: str
    num_tokens: int

    def key(self, engine: EngineInfo) -> str:
        """A name for the measurement of ``engine``."""
        digests = f"{self.model_digest}/{self.text_digest}"
        return f"{engine.fingerprint}/{self.exact.fingerprint}/{digests}/{self.num_tokens}"


class DivergenceCache:
    """Divergences measured before, in a JSON file, by engine, model file and text."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def find(self, engine: EngineInfo, source: MeasuredOn) -> Divergence | None:
        """What was measured before."""
        entry = self._read().get(source.key(engine))
        return None if entry is None else Divergence(**entry)

    def add(self, engine: EngineInfo, source: MeasuredOn, divergence: Divergence) -> None:
        """Keep a measurement."""
        entries = self._read() | {source.key(engine): asdict(divergence)}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(self._path, f"{json.dumps(entries, indent=2)}\n".encode())

    def _read(self) -> dict[str, dict[str, float]]:
        try:
            entries: dict[str, dict[str, float]] = json.loads(self._path.read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return {}
        return entries
