"""Batches of texts that encoders are measured on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bench.peers.workloads import TokenLists
from bench.worker import Worker

FIRST_WORD_ID, CLS_ID, SEP_ID = 1000, 101, 102
"""BERT's English vocabularies: control tokens and unused rows come before the first word."""

_TOKENS_PER_RUN = 2048


@dataclass(frozen=True, slots=True)
class Embedding:
    """Batches of texts with these lengths in tokens, the first and the last token included that BERT adds."""

    unit: ClassVar[str] = "seq/s"

    name: str
    lengths: tuple[int, ...]

    @property
    def num_batches(self) -> int:
        """Batches that a run is timed over: one would be too short a time if it is small."""
        return max(1, _TOKENS_PER_RUN // sum(self.lengths))

    def run(self, worker: Worker, inputs: TokenLists) -> float:
        """Sequences a second."""
        return len(inputs) / worker.embed(inputs, batch_size=len(self.lengths)).seconds

    def draw(self, rng: np.random.Generator, vocab_size: int) -> TokenLists:
        """Fresh random words for all batches of a run."""
        return [
            [CLS_ID, *rng.integers(FIRST_WORD_ID, vocab_size, length - 2).tolist(), SEP_ID]
            for _ in range(self.num_batches)
            for length in self.lengths
        ]


def batch(num_texts: int, num_tokens: int) -> Embedding:
    """Texts of one length."""
    return Embedding(f"{num_texts}x{num_tokens}", (num_tokens,) * num_texts)


RAGGED = Embedding("ragged", tuple(np.linspace(4, 128, 32).round().astype(int).tolist()))
"""32 texts of 4 to 128 tokens: those who pad compute 128 for each."""

BATCHES = (batch(1, 16), batch(1, 128), batch(32, 16), batch(32, 128))
