"""A worker that runs a model's CTranslate2 form through its ``Generator``, under its environment's interpreter.

Threads are libgomp's, which sleep soon after each product: a worker that waits is idle as it is.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import ctranslate2
import numpy as np
import numpy.typing as npt

from bench.channel import standard_channel
from bench.serving import EngineInfo, serve, worker_parser

# Tokens a second of SmolLM2 on two cores with AMX, prefill of 512 / decode of 1 / of 16: int8 1498 / 27 / 192,
# int8_float32 1509 / 25 / 187, float32 830 / 16 / 96. It offers no bfloat16 here. Its own choice of backend is as
# fast as MKL asked for (1504 / 27 / 203), oneDNN is slower (CT2_USE_MKL=0: 994 / 20 / 171), and packed weights
# (CT2_USE_EXPERIMENTAL_PACKED_GEMM=1) change nothing.
COMPUTE_TYPES = ("int8", "int8_float32", "float32")
_LOGIT_ROWS = 64


class CTranslate2Engine:
    """A ``serving.BenchEngine``."""

    def __init__(self, path: Path, *, num_threads: int, compute_type: str) -> None:
        self._generator = ctranslate2.Generator(
            str(path), device="cpu", compute_type=compute_type, inter_threads=1, intra_threads=num_threads
        )
        self._tokens: list[str] = json.loads((path / "vocabulary.json").read_text(encoding="utf-8"))
        version = ctranslate2.__version__
        self.info = EngineInfo(
            name="CTranslate2",
            version=f"CTranslate2 {version}",
            isa="",
            num_threads=num_threads,
            fingerprint=f"ctranslate2-{version}-{path.name}-{self._generator.compute_type}",
        )

    def prefill(self, prompt: Sequence[int]) -> float:
        """Seconds from a prompt to the greedy token after it."""
        texts = self._texts([prompt])
        begin = time.perf_counter()
        self._generate(texts, 1, None)
        return time.perf_counter() - begin

    def decode(self, prompts: Sequence[Sequence[int]], num_tokens: int) -> float:
        """Seconds from the first token of all prompts to the last, in one batch."""
        times: list[float] = []

        def note(step: ctranslate2.GenerationStepResult) -> bool:
            times.append(time.perf_counter())
            return False

        self._generate(self._texts(prompts), num_tokens + 1, note)
        expected = len(prompts) * (num_tokens + 1)
        if len(times) != expected:
            raise RuntimeError(f"decode: expected {expected} tokens, got {len(times)}")
        return times[-1] - times[len(prompts) - 1]

    def logits(self, token_ids: Sequence[int]) -> Iterator[npt.NDArray[np.float32]]:
        """Logits after each token, in pieces."""
        view = self._generator.forward_batch([list(token_ids)])
        rows = np.array(view)[0].astype(np.float32, copy=False)
        for start in range(0, len(rows), _LOGIT_ROWS):
            yield rows[start : start + _LOGIT_ROWS]

    def _texts(self, prompts: Sequence[Sequence[int]]) -> list[list[str]]:
        """What ``generate_batch`` takes for ids."""
        return [[self._tokens[token_id] for token_id in prompt] for prompt in prompts]

    def _generate(self, texts: list[list[str]], num_tokens: int, note: object) -> None:
        results = self._generator.generate_batch(
            texts,
            beam_size=1,
            sampling_topk=1,
            min_length=num_tokens,
            max_length=num_tokens,
            include_prompt_in_result=False,
            callback=note,
        )
        if any(len(result.sequences_ids[0]) != num_tokens for result in results):
            raise RuntimeError(f"generate_batch: expected {num_tokens} tokens of each prompt, got another number")


def main() -> None:
    """Serve on the standard streams."""
    parser = worker_parser()
    parser.add_argument("--compute-type", choices=COMPUTE_TYPES, default="int8")
    arguments = parser.parse_args()
    channel = standard_channel()
    engine = CTranslate2Engine(arguments.model, num_threads=arguments.threads, compute_type=arguments.compute_type)
    serve(engine, channel)


if __name__ == "__main__":
    main()
