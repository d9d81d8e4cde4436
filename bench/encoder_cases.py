"""Batches of texts that encoders are compared on."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass

import numpy as np

from bench.worker import EncoderWorker

FIRST_WORD_ID, CLS_ID, SEP_ID = 1000, 101, 102
"""BERT's English vocabularies: control tokens and unused rows come before the first word."""

_TOKENS_PER_RUN = 2048


@dataclass(frozen=True, slots=True)
class EncoderCase:
    """Batches of texts with these lengths in tokens, the first and the last token included that BERT adds."""

    name: str
    lengths: tuple[int, ...]

    @property
    def num_batches(self) -> int:
        """Batches that a run is timed over: one would be too short a time if it is small."""
        return max(1, _TOKENS_PER_RUN // sum(self.lengths))

    def run(self, worker: EncoderWorker, texts: list[list[int]]) -> float:
        """Sequences a second."""
        return len(texts) / worker.embed(texts, batch_size=len(self.lengths)).seconds

    def draw_texts(self, rng: np.random.Generator, vocab_size: int) -> list[list[int]]:
        """Fresh random words for all batches of a run."""
        return [
            [CLS_ID, *rng.integers(FIRST_WORD_ID, vocab_size, length - 2).tolist(), SEP_ID]
            for _ in range(self.num_batches)
            for length in self.lengths
        ]


def parse_case(text: str) -> EncoderCase:
    """``32x128``: texts in a batch, tokens of each; or ``ragged``. Raises ArgumentTypeError for anything else."""
    if text == RAGGED.name:
        return RAGGED
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if match is None or int(match[2]) < 2:
        raise argparse.ArgumentTypeError(f"expected texts x tokens, such as 32x128, or ragged; got {text!r}")
    return EncoderCase(text, (int(match[2]),) * int(match[1]))


RAGGED = EncoderCase("ragged", tuple(np.linspace(4, 128, 32).round().astype(int).tolist()))
"""32 texts of 4 to 128 tokens: those who pad compute 128 for each."""

CASES = (*(parse_case(text) for text in ("1x16", "1x128", "32x16", "32x128")), RAGGED)
