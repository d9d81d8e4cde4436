"""A worker that runs an ONNX or OpenVINO file of a sentence encoder with OpenVINO, under the peers' interpreter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import openvino

from bench.channel import standard_channel
from bench.peers.padding import pad_batch
from bench.serving import EngineInfo, serve_encoder, worker_parser


class OpenVinoEngine:
    """A ``serving.EncoderEngine``. It compiles the model for the latest batch's shape: in 8 bits that is up to a fifth
    faster than one for any shape.
    """

    def __init__(self, path: Path, *, name: str, num_threads: int, precision: str) -> None:
        self._core = openvino.Core()
        self._path = path
        self._properties = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": num_threads,
            "INFERENCE_PRECISION_HINT": precision,
        }
        self._shape: tuple[int, ...] = ()
        self._request: openvino.InferRequest | None = None
        version = f"OpenVINO {openvino.__version__.partition('-')[0]}"
        fingerprint = f"openvino-{openvino.__version__}-{path.stem}-{precision}"
        self.info = EngineInfo(name, version, "", num_threads, fingerprint)

    def prepare(self, batch: Sequence[Sequence[int]]) -> Callable[[], npt.NDArray[np.float32]]:
        """What runs a padded batch."""
        inputs = dict(zip(("input_ids", "attention_mask"), pad_batch(batch), strict=True))
        request = self._request_for(inputs["input_ids"].shape)

        def embed() -> npt.NDArray[np.float32]:
            rows: npt.NDArray[np.float32] = request.infer(inputs, share_inputs=True)["embeddings"]
            return rows

        return embed

    def _request_for(self, shape: tuple[int, ...]) -> openvino.InferRequest:
        if self._request is None or shape != self._shape:
            model = self._core.read_model(self._path)
            model.reshape({index: list(shape) for index in range(len(model.inputs))})
            self._request = self._core.compile_model(model, "CPU", self._properties).create_infer_request()
            self._shape = shape
        return self._request


def main() -> None:
    """Serve on the standard streams."""
    parser = worker_parser()
    parser.add_argument("--name", required=True)
    parser.add_argument("--precision", choices=("f32", "bf16"), default="f32", help="of what is not quantised")
    arguments = parser.parse_args()
    channel = standard_channel()
    engine = OpenVinoEngine(
        arguments.model, name=arguments.name, num_threads=arguments.threads, precision=arguments.precision
    )
    serve_encoder(engine, channel)


if __name__ == "__main__":
    main()
