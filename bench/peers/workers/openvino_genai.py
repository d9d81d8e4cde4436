"""A worker that runs a model's OpenVINO form with OpenVINO GenAI, under its environment's interpreter.

It steps the pipeline that batches requests as they come, with its cache of prefixes off.

Tokens a second of SmolLM2 on two cores with AMX, prefill of 512 / decode of 1 / of 16: f32 with keys and values in u8
2039 / 104 / 866 and in f16 2178 / 104 / 891, bf16 with u8 4441 / 56 / 435 and with bf16 4204 / 87 / 675. None is
best for all: compare with the faster one of each workload. Neither changes how far it lies from exact, 0.40 nats.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import openvino
import openvino_genai

from bench.channel import standard_channel
from bench.serving import EngineInfo, serve, worker_parser

_STEP_TOKENS = 1024
_CACHE_GIB = 1
_LOGIT_ROWS = 64


class OpenVinoGenAIEngine:
    """A ``serving.BenchEngine``."""

    def __init__(self, path: Path, *, num_threads: int, precision: str, kv_precision: str) -> None:
        self._path = path
        self._properties = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": num_threads,
            "INFERENCE_PRECISION_HINT": precision,
            "KV_CACHE_PRECISION": kv_precision,
        }
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.enable_prefix_caching = False
        scheduler.max_num_batched_tokens = _STEP_TOKENS
        scheduler.cache_size = _CACHE_GIB
        scheduler.dynamic_split_fuse = True
        self._pipeline = openvino_genai.ContinuousBatchingPipeline(str(path), scheduler, "CPU", self._properties)
        self._num_requests = 0
        self._request: openvino.InferRequest | None = None
        version = openvino_genai.__version__.partition("-")[0]
        fingerprint = f"openvino-genai-{version}-{path.name}-{precision}-{kv_precision}"
        self.info = EngineInfo("OpenVINO", f"OpenVINO GenAI {version}", "", num_threads, fingerprint)

    def prefill(self, prompt: Sequence[int]) -> float:
        """Seconds from a prompt to the greedy token after it."""
        tensor = openvino.Tensor(np.array([prompt], np.int64))
        begin = time.perf_counter()
        handle = self._add(tensor, 1)
        self._pipeline.step()
        seconds = time.perf_counter() - begin
        self._take([handle], 1)
        return seconds

    def decode(self, prompts: Sequence[Sequence[int]], num_tokens: int) -> float:
        """Seconds from the first token of all prompts to the last, all in each step."""
        tensors = [openvino.Tensor(np.array([prompt], np.int64)) for prompt in prompts]
        handles = [self._add(tensor, num_tokens + 1) for tensor in tensors]
        self._pipeline.step()
        begin = time.perf_counter()
        for _ in range(num_tokens):
            self._pipeline.step()
        seconds = time.perf_counter() - begin
        self._take(handles, num_tokens + 1)
        return seconds

    def logits(self, token_ids: Sequence[int]) -> Iterator[npt.NDArray[np.float32]]:
        """Logits after each token, in pieces, by the runtime below the pipeline, which gives tokens only."""
        if self._request is None:
            core = openvino.Core()
            compiled = core.compile_model(self._path / "openvino_model.xml", "CPU", self._properties)
            self._request = compiled.create_infer_request()
        self._request.reset_state()
        for start in range(0, len(token_ids), _LOGIT_ROWS):
            piece = token_ids[start : start + _LOGIT_ROWS]
            end = start + len(piece)
            inputs = {
                "input_ids": np.array([piece], np.int64),
                "attention_mask": np.ones((1, end), np.int64),
                "position_ids": np.arange(start, end, dtype=np.int64)[None],
                "beam_idx": np.zeros(1, np.int32),
            }
            yield np.array(self._request.infer(inputs)["logits"][0], np.float32)

    def _add(self, tensor: openvino.Tensor, num_tokens: int) -> openvino_genai.py_openvino_genai.GenerationHandle:
        config = openvino_genai.GenerationConfig(max_new_tokens=num_tokens, ignore_eos=True, do_sample=False)
        self._num_requests += 1
        return self._pipeline.add_request(self._num_requests, tensor, config)

    def _take(self, handles: Sequence[openvino_genai.py_openvino_genai.GenerationHandle], num_tokens: int) -> None:
        """Check that every request has its tokens."""
        if self._pipeline.has_non_finished_requests():
            raise RuntimeError(f"expected {num_tokens} tokens of each request, some are not finished")
        for handle in handles:
            (output,) = handle.read_all()
            if len(output.generated_ids) != num_tokens:
                raise RuntimeError(f"expected {num_tokens} tokens of a request, got {len(output.generated_ids)}")


def main() -> None:
    """Serve on the standard streams."""
    parser = worker_parser()
    parser.add_argument("--precision", choices=("f32", "bf16"), default="f32", help="of what is not quantised")
    parser.add_argument("--kv-precision", choices=("u8", "f16", "bf16", "f32"), default="u8")
    arguments = parser.parse_args()
    channel = standard_channel()
    engine = OpenVinoGenAIEngine(
        arguments.model,
        num_threads=arguments.threads,
        precision=arguments.precision,
        kv_precision=arguments.kv_precision,
    )
    serve(engine, channel)


if __name__ == "__main__":
    main()
