"""A worker that runs the CTranslate2 form of a sentence encoder, under its environment's interpreter.

The engine ends with the hidden states: their mean over a sentence's tokens, scaled to unit length, is NumPy's part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import ctranslate2
import numpy as np
import numpy.typing as npt

from bench.channel import standard_channel
from bench.peers.padding import pad_batch
from bench.serving import EngineInfo, serve_encoder, worker_parser


class CTranslate2Encoder:
    """A ``serving.EncoderEngine``."""

    def __init__(self, path: Path, *, num_threads: int, compute_type: str) -> None:
        self._encoder = ctranslate2.Encoder(
            str(path), device="cpu", compute_type=compute_type, inter_threads=1, intra_threads=num_threads
        )
        version = f"CTranslate2 {ctranslate2.__version__}"
        fingerprint = f"ctranslate2-{ctranslate2.__version__}-{path.name}-{compute_type}"
        self.info = EngineInfo(f"CTranslate2 {compute_type}", version, "", num_threads, fingerprint)

    def prepare(self, batch: Sequence[Sequence[int]]) -> Callable[[], npt.NDArray[np.float32]]:
        """What runs a padded batch."""
        ids, mask = pad_batch(batch)
        tokens = ctranslate2.StorageView.from_array(np.ascontiguousarray(ids, np.int32))
        lengths = ctranslate2.StorageView.from_array(mask.sum(axis=1).astype(np.int32))
        weights = (mask / mask.sum(axis=1, keepdims=True)).astype(np.float32)

        def embed() -> npt.NDArray[np.float32]:
            states = np.array(self._encoder.forward_batch(tokens, lengths).last_hidden_state)
            return mean_rows(states, weights)

        return embed


def mean_rows(states: npt.NDArray[np.float32], weights: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The sums of ``states`` ``[n, T, C]`` under ``weights`` ``[n, T]``, scaled to unit length: ``[n, C]``."""
    rows = np.matmul(weights[:, None, :], states)[:, 0]
    unit: npt.NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def main() -> None:
    """Serve on the standard streams."""
    parser = worker_parser()
    parser.add_argument("--compute-type", choices=("int8", "float32"), default="int8")
    arguments = parser.parse_args()
    channel = standard_channel()
    encoder = CTranslate2Encoder(arguments.model, num_threads=arguments.threads, compute_type=arguments.compute_type)
    serve_encoder(encoder, channel)


if __name__ == "__main__":
    main()
