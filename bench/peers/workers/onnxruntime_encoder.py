"""A worker that runs an ONNX file of a sentence encoder with ONNX Runtime, under the peers' interpreter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

from bench.channel import standard_channel
from bench.peers.padding import pad_batch
from bench.serving import EngineInfo, serve_encoder, worker_parser

# It joins a sum and the normalisation after it into an op that takes ten times as long as LayerNormalization does, and
# a quarter of a batch of 32 by 16 tokens (1.32, AVX-512).
_SLOWER_WITH = ["SkipLayerNormFusion"]


class OnnxEngine:
    """A ``serving.EncoderEngine``."""

    def __init__(self, path: Path, *, name: str, num_threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        self._session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"], disabled_optimizers=_SLOWER_WITH
        )
        version = f"ONNX Runtime {onnxruntime.__version__}"
        self.info = EngineInfo(name, version, "", num_threads, f"onnxruntime-{onnxruntime.__version__}-{path.stem}")

    def prepare(self, batch: Sequence[Sequence[int]]) -> Callable[[], npt.NDArray[np.float32]]:
        """What runs a padded batch."""
        ids, mask = pad_batch(batch)
        feeds = {"input_ids": ids, "attention_mask": mask}
        return lambda: self._session.run(None, feeds)[0]


def main() -> None:
    """Serve on the standard streams."""
    parser = worker_parser()
    parser.add_argument("--name", required=True)
    arguments = parser.parse_args()
    channel = standard_channel()
    serve_encoder(OnnxEngine(arguments.model, name=arguments.name, num_threads=arguments.threads), channel)


if __name__ == "__main__":
    main()
