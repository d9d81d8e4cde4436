"""Prompts for measurements."""

from __future__ import annotations

import numpy as np

from lepton_ai.backends.base import Int32Array
from lepton_ai.text.tokenizer import Tokenizer


class RandomPrompts:
    """Random ordinary tokens, no two prompts alike, so that none finds its prefix in the cache."""

    def __init__(self, tokenizer: Tokenizer, seed: int) -> None:
        ids = [i for i in range(tokenizer.vocab_size) if not tokenizer.is_control(i)]
        self._ids = np.array(ids, np.int32)
        self._rng = np.random.default_rng(seed)

    def draw(self, length: int) -> Int32Array:
        """One prompt of ``length`` tokens."""
        return self._rng.choice(self._ids, length)

    def draw_many(self, length: int, count: int) -> list[Int32Array]:
        """Several."""
        return [self.draw(length) for _ in range(count)]
