"""A worker that embeds with Lepton through its public interface: checking ids and packing batches are in its times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

import lepton_ai
from bench.channel import standard_channel
from bench.peers.own_build import own_digest
from bench.serving import EngineInfo, serve_encoder, worker_parser
from lepton_ai import LLM


class LeptonEncoder:
    """A ``serving.EncoderEngine``."""

    def __init__(self, path: Path, *, num_threads: int, policy: str) -> None:
        self._llm = LLM(path, num_threads=num_threads, policy=policy)

    @property
    def info(self) -> EngineInfo:
        """What runs."""
        info, version = self._llm.model_info, f"Lepton {lepton_ai.__version__}"
        return EngineInfo(
            f"Lepton {info.policy}",
            version,
            info.isa,
            info.num_threads,
            f"lepton-{own_digest()}-{info.isa}-{info.policy}",
        )

    def prepare(self, batch: Sequence[Sequence[int]]) -> Callable[[], npt.NDArray[np.float32]]:
        """What embeds a batch, from lists of ids."""
        return lambda: self._llm.embed(batch)


def main() -> None:
    """Serve on the standard streams."""
    parser = worker_parser()
    parser.add_argument("--policy", required=True)
    arguments = parser.parse_args()
    channel = standard_channel()
    serve_encoder(LeptonEncoder(arguments.model, num_threads=arguments.threads, policy=arguments.policy), channel)


if __name__ == "__main__":
    main()
