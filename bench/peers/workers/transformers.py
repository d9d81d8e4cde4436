"""A worker that runs a Hugging Face folder with transformers and PyTorch, under their environment's interpreter.

It calls the model's forward with a cache that grows and takes the greedy token itself: ``generate`` does the same with
more around it. Tokens a second of SmolLM2 on two cores with AMX, prefill of 512 / decode of 1 / of 16: float32
869 / 27 / 230, bfloat16 2907 / 25 / 339 at 0.001 nats a token from exact.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import transformers

from bench.channel import standard_channel
from bench.serving import EngineInfo, serve, worker_parser

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_LOGIT_ROWS = 64


class TransformersEngine:
    """A ``serving.BenchEngine``."""

    def __init__(self, path: Path, *, num_threads: int, dtype: str) -> None:
        torch.set_num_threads(num_threads)
        self._model = transformers.AutoModelForCausalLM.from_pretrained(
            path, dtype=DTYPES[dtype], attn_implementation="sdpa"
        ).eval()
        version = f"transformers {transformers.__version__}, PyTorch {torch.__version__.partition('+')[0]}"
        self.info = EngineInfo(
            name="transformers",
            version=version,
            isa=torch.backends.cpu.get_cpu_capability(),
            num_threads=num_threads,
            fingerprint=f"transformers-{transformers.__version__}-{torch.__version__}-{dtype}",
        )

    def prefill(self, prompt: Sequence[int]) -> float:
        """Seconds from a prompt to the greedy token after it."""
        ids = torch.tensor([list(prompt)])
        begin = time.perf_counter()
        self._next(ids, self._cache())
        return time.perf_counter() - begin

    def decode(self, prompts: Sequence[Sequence[int]], num_tokens: int) -> float:
        """Seconds from the first token of all prompts to the last, in one batch."""
        (length,) = {len(prompt) for prompt in prompts}
        cache = self._cache()
        ids = self._next(torch.tensor([list(prompt) for prompt in prompts]), cache)
        begin = time.perf_counter()
        for _ in range(num_tokens):
            ids = self._next(ids, cache)
        seconds = time.perf_counter() - begin
        assert cache.get_seq_length() == length + num_tokens
        return seconds

    def logits(self, token_ids: Sequence[int]) -> Iterator[npt.NDArray[np.float32]]:
        """Logits after each token, in pieces."""
        cache = self._cache()
        for start in range(0, len(token_ids), _LOGIT_ROWS):
            ids = torch.tensor([list(token_ids[start : start + _LOGIT_ROWS])])
            with torch.inference_mode():
                output = self._model(ids, past_key_values=cache, use_cache=True)
            yield output.logits[0].float().numpy()

    def _cache(self) -> transformers.Cache:
        return transformers.DynamicCache(config=self._model.config)

    def _next(self, ids: torch.Tensor, cache: transformers.Cache) -> torch.Tensor:
        """The greedy token of each sequence ``[n, 1]``, whose last ids are ``ids`` ``[n, T]``."""
        with torch.inference_mode():
            logits = self._model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
            return logits[:, -1].argmax(dim=-1, keepdim=True)


def main() -> None:
    """Serve on the standard streams."""
    parser = worker_parser()
    parser.add_argument("--dtype", choices=tuple(DTYPES), default="float32")
    arguments = parser.parse_args()
    channel = standard_channel()
    serve(TransformersEngine(arguments.model, num_threads=arguments.threads, dtype=arguments.dtype), channel)


if __name__ == "__main__":
    main()
