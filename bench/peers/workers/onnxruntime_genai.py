"""A worker that runs a model's ONNX form with ONNX Runtime GenAI, under its environment's interpreter."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import onnxruntime_genai

from bench.channel import standard_channel
from bench.serving import EngineInfo, serve, worker_parser

_LOGIT_ROWS = 64


class OnnxRuntimeEngine:
    """A ``serving.BenchEngine``."""

    def __init__(self, path: Path, *, num_threads: int) -> None:
        config = onnxruntime_genai.Config(str(path))
        options = {
            "intra_op_num_threads": num_threads,
            "inter_op_num_threads": 1,
            # Else threads spin on for some 30 ms after a token. It costs nothing (SmolLM2 decodes 131 and 140 tokens a
            # second without, 130 and 134 with it), where not to spin at all costs a quarter (119 with, 87 without).
            "session.force_spinning_stop": "1",
        }
        config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
        self._model = onnxruntime_genai.Model(config)
        version = f"ONNX Runtime GenAI {onnxruntime_genai.__version__}, ONNX Runtime {onnxruntime.__version__}"
        fingerprint = f"{onnxruntime_genai.__version__}-{onnxruntime.__version__}-{path.name}"
        self.info = EngineInfo("ONNX Runtime", version, "", num_threads, f"onnxruntime-genai-{fingerprint}")

    def prefill(self, prompt: Sequence[int]) -> float:
        """Seconds from a prompt to the greedy token after it."""
        generator = self._generator(1, len(prompt) + 1)
        tokens = np.array([prompt], np.int32)
        begin = time.perf_counter()
        generator.append_tokens(tokens)
        generator.generate_next_token()
        return time.perf_counter() - begin

    def decode(self, prompts: Sequence[Sequence[int]], num_tokens: int) -> float:
        """Seconds from the first token of all prompts to the last, in one batch."""
        generator = self._generator(len(prompts), len(prompts[0]) + num_tokens + 1)
        generator.append_tokens(np.array(prompts, np.int32))
        generator.generate_next_token()
        begin = time.perf_counter()
        for _ in range(num_tokens):
            generator.generate_next_token()
        seconds = time.perf_counter() - begin
        if generator.token_count() != len(prompts[0]) + num_tokens + 1:
            raise RuntimeError(f"decode: expected {num_tokens + 1} tokens, the generator ended before")
        return seconds

    def logits(self, token_ids: Sequence[int]) -> Iterator[npt.NDArray[np.float32]]:
        """Logits after each token, in pieces. The model has a head for the last token of a step, so a step is one."""
        generator = self._generator(1, len(token_ids) + 1)
        for start in range(0, len(token_ids), _LOGIT_ROWS):
            rows = []
            for token_id in token_ids[start : start + _LOGIT_ROWS]:
                generator.append_tokens(np.array([[token_id]], np.int32))
                rows.append(np.array(generator.get_logits(), np.float32).reshape(-1))
            yield np.stack(rows)

    def _generator(self, num_seqs: int, max_length: int) -> onnxruntime_genai.Generator:
        params = onnxruntime_genai.GeneratorParams(self._model)
        params.set_search_options(
            batch_size=num_seqs, do_sample=False, min_length=max_length, max_length=max_length + 1
        )
        return onnxruntime_genai.Generator(self._model, params)


def main() -> None:
    """Serve on the standard streams."""
    parser = worker_parser()
    arguments = parser.parse_args()
    channel = standard_channel()
    serve(OnnxRuntimeEngine(arguments.model, num_threads=arguments.threads), channel)


if __name__ == "__main__":
    main()
