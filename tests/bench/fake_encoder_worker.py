"""A worker whose encoder computes nothing: a vector holds the length of its sequence and the size of its batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from bench.channel import standard_channel
from bench.serving import EngineInfo, serve_encoder


class FakeEncoder:
    """Refuses an empty sequence, and counts what it has prepared and embedded."""

    info = EngineInfo("fake encoder", "1", "none", 1, "fake-encoder-1")

    def __init__(self) -> None:
        self._num_prepared = self._num_embedded = 0

    def prepare(self, batch: Sequence[Sequence[int]]) -> Callable[[], npt.NDArray[np.float32]]:
        """All batches of a request must be prepared before the first is embedded."""
        if not all(batch):
            raise ValueError("an empty sequence")
        self._num_prepared += 1

        def embed() -> npt.NDArray[np.float32]:
            rows = [(len(sequence), len(batch), self._num_prepared, self._num_embedded) for sequence in batch]
            self._num_embedded += 1
            return np.array(rows, np.float32)

        return embed


if __name__ == "__main__":
    serve_encoder(FakeEncoder(), standard_channel())
