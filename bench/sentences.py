"""Sentences that embeddings are compared on: STS-B, or a built-in list where that is not there."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from bench.worker import ROOT

DEFAULT_STSB = ROOT.parent / "shared" / "data" / "stsb-dev.tsv"

_SUBJECTS = (
    *("A man with a red hat", "The old woman", "My neighbour's dog", "A team of engineers", "The committee"),
    *("An orchestra", "Every student in the class", "The tired nurse", "A small company", "Nobody"),
)
_ACTIONS = (
    *("plays the guitar", "crosses the frozen river", "is reading a long report about taxes", "sings"),
    *("has repaired the engine", "will vote on the new budget", "cooks soup for forty people", "lost the keys"),
    *("waits for the late train", "measures how fast the glacier melts"),
)
_SETTINGS = ("", " in the garden", ", although it rains", " before the first snow of the year falls")


@dataclass(frozen=True, slots=True)
class ScoredPair:
    """Two sentences, and how alike people find them: 0 to 5."""

    first: str
    second: str
    score: float


def read_stsb(path: Path) -> list[ScoredPair]:
    """The pairs of a file of the STS benchmark: tab-separated, with a header. Raises ValueError for another form."""
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
    try:
        places = [header.index(name) for name in ("sentence1", "sentence2", "score")]
    except ValueError:
        raise ValueError(f"{path}: expected columns sentence1, sentence2 and score, got {header}") from None
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise ValueError(f"{path}:{number}: expected {len(header)} columns, got {len(row)}")
    first, second, score = places
    return [ScoredPair(row[first], row[second], float(row[score])) for row in rows]


def built_in_sentences() -> list[str]:
    """400 sentences of 2 to 22 words."""
    return [f"{subject} {action}{setting}." for subject, action, setting in product(_SUBJECTS, _ACTIONS, _SETTINGS)]


@dataclass(frozen=True, slots=True)
class SentenceSets:
    """What embeddings are compared on, and what quantisers may see before."""

    measured: tuple[str, ...]
    calibration: tuple[str, ...]


def sentence_sets(stsb: Path | None, *, size: int = 200) -> SentenceSets:
    """Two sets of ``size`` sentences that share none, from a file of the STS benchmark or the built-in list."""
    if stsb is None:
        sentences = built_in_sentences()
    else:
        pairs = read_stsb(stsb)
        sentences = list(dict.fromkeys(text for pair in pairs for text in (pair.first, pair.second)))
    if len(sentences) < 2 * size:
        raise ValueError(f"sentences: expected at least {2 * size} different ones, got {len(sentences)}")
    # Every nth: the benchmark is sorted by where its texts come from.
    step = len(sentences) // (2 * size)
    chosen = sentences[: 2 * size * step : step]
    return SentenceSets(tuple(chosen[::2]), tuple(chosen[1::2]))
