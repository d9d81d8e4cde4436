"""A worker whose engine computes nothing: what it answers follows from what it is asked."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from bench.channel import standard_channel
from bench.serving import EngineInfo, serve

VOCAB_SIZE = 5
NEVER = -1
"""A number of tokens that it does not answer."""


class FakeEngine:
    """Takes a millisecond a token, or FAKE_SPEED times less; its logits are one-hot. With FAKE_SILENCE, it never ends
    to decode.
    """

    info = EngineInfo("fake", "1", "none", 1, "fake-1")

    def prefill(self, prompt: Sequence[int]) -> float:
        """A millisecond a token."""
        print("noise on standard output")
        return len(prompt) / 1000 / _speed()

    def decode(self, prompts: Sequence[Sequence[int]], num_tokens: int) -> float:
        """A millisecond a token."""
        if not prompts:
            raise ValueError("no prompts")
        if num_tokens == NEVER or "FAKE_SILENCE" in os.environ:
            time.sleep(600)
        return len(prompts) * num_tokens / 1000 / _speed()

    def logits(self, token_ids: Sequence[int]) -> Iterator[npt.NDArray[np.float32]]:
        """Pieces of two rows."""
        rows = np.eye(VOCAB_SIZE, dtype=np.float32)[list(token_ids)]
        for start in range(0, len(rows), 2):
            yield rows[start : start + 2]


def _speed() -> float:
    return float(os.environ.get("FAKE_SPEED", "1"))


if __name__ == "__main__":
    argparse.ArgumentParser().parse_args()
    serve(FakeEngine(), standard_channel())
