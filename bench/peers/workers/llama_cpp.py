"""A worker that runs llama.cpp through llama-cpp-python's low-level interface, under the peers' interpreter.

It evaluates given tokens and samples nothing, and its batches are prepared outside the timed part. A build that lacks
what makes llama.cpp fast is refused.
"""

from __future__ import annotations

import argparse
import hashlib
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import llama_cpp
import numpy as np
import numpy.typing as npt

from bench.channel import standard_channel
from bench.peers.llama_build import check_build
from bench.serving import EngineInfo, serve, worker_parser

_CONTEXT_TOKENS = 1024
_STEP_TOKENS = 512
_LOGIT_ROWS = 64


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def _ignore_log(level: int, text: bytes, data: object) -> None:
    """llama.cpp prints a page for each model."""


class _Batch:
    """A native batch of tokens."""

    def __init__(self, capacity: int) -> None:
        self.native = llama_cpp.llama_batch_init(capacity, 0, 1)
        self.native.n_tokens = 0

    def clear(self) -> None:
        self.native.n_tokens = 0

    def add(self, token_id: int, position: int, sequence: int, *, wants_logits: bool) -> None:
        index = self.native.n_tokens
        self.native.token[index] = token_id
        self.native.pos[index] = position
        self.native.n_seq_id[index] = 1
        self.native.seq_id[index][0] = sequence
        self.native.logits[index] = wants_logits
        self.native.n_tokens = index + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How llama.cpp runs: fused attention or not, and one KV buffer for all sequences or one for each."""

    num_threads: int
    has_flash_attention: bool
    has_unified_kv: bool


class _Context:
    """A native context for up to ``num_seqs`` sequences."""

    def __init__(self, model: object, num_seqs: int, settings: Settings) -> None:
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = max(_CONTEXT_TOKENS, 256 * num_seqs)
        params.n_batch = params.n_ubatch = _STEP_TOKENS
        params.n_seq_max = num_seqs
        params.n_threads = params.n_threads_batch = settings.num_threads
        params.flash_attn_type = (
            llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED
            if settings.has_flash_attention
            else llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        )
        params.kv_unified = settings.has_unified_kv
        self.native = llama_cpp.llama_init_from_model(model, params)
        if not self.native:
            raise RuntimeError(f"llama.cpp: no context for {num_seqs} sequences")

    def clear(self) -> None:
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.native), True)

    def decode(self, batch: _Batch) -> None:
        status = llama_cpp.llama_decode(self.native, batch.native)
        if status:
            raise RuntimeError(f"llama_decode: status {status}")

    def synchronize(self) -> None:
        llama_cpp.llama_synchronize(self.native)


class LlamaEngine:
    """A ``serving.BenchEngine``."""

    def __init__(self, path: Path, settings: Settings) -> None:
        llama_cpp.llama_log_set(_ignore_log, None)
        llama_cpp.llama_backend_init()
        self._features = check_build(llama_cpp.llama_print_system_info().decode(), platform.machine())
        self._model = llama_cpp.llama_model_load_from_file(str(path).encode(), llama_cpp.llama_model_default_params())
        if not self._model:
            raise RuntimeError(f"llama.cpp cannot load {path}")
        self._settings = settings
        self._contexts: dict[int, _Context] = {}
        self._batch = _Batch(_STEP_TOKENS)
        self._vocab_size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self._model))

    @property
    def info(self) -> EngineInfo:
        """What runs."""
        library = Path(llama_cpp.__file__).parent / "lib" / "libggml-cpu.so"
        digest = hashlib.sha256(library.read_bytes()).hexdigest()[:16]
        attention = "flash" if self._settings.has_flash_attention else "plain"
        return EngineInfo(
            name="llama.cpp",
            version=f"llama-cpp-python {llama_cpp.__version__}",
            isa=" ".join(self._features),
            num_threads=self._settings.num_threads,
            fingerprint=f"llama-{llama_cpp.__version__}-{digest}-{attention}",
        )

    def prefill(self, prompt: Sequence[int]) -> float:
        """Seconds from a prompt to the logits after it."""
        context = self._context(1)
        self._fill(prompt)
        context.clear()
        begin = time.perf_counter()
        context.decode(self._batch)
        context.synchronize()
        return time.perf_counter() - begin

    def decode(self, prompts: Sequence[Sequence[int]], num_tokens: int) -> float:
        """Seconds of ``num_tokens`` steps, one token of each sequence a step; the prompts' tokens are fed again."""
        context = self._context(len(prompts))
        context.clear()
        for sequence, prompt in enumerate(prompts):
            self._fill(prompt, sequence)
            context.decode(self._batch)
        steps = [self._step(prompts, step) for step in range(num_tokens)]
        context.synchronize()
        begin = time.perf_counter()
        for batch in steps:
            context.decode(batch)
            context.synchronize()
        seconds = time.perf_counter() - begin
        for batch in steps:
            llama_cpp.llama_batch_free(batch.native)
        return seconds

    def logits(self, token_ids: Sequence[int]) -> Iterator[npt.NDArray[np.float32]]:
        """Logits after each token, in pieces."""
        context = self._context(1)
        context.clear()
        for start in range(0, len(token_ids), _LOGIT_ROWS):
            self._batch.clear()
            piece = token_ids[start : start + _LOGIT_ROWS]
            for index, token_id in enumerate(piece):
                self._batch.add(token_id, start + index, 0, wants_logits=True)
            context.decode(self._batch)
            values = llama_cpp.llama_get_logits(context.native)
            yield np.ctypeslib.as_array(values, shape=(len(piece), self._vocab_size)).copy()

    def _context(self, num_seqs: int) -> _Context:
        if num_seqs not in self._contexts:
            self._contexts[num_seqs] = _Context(self._model, num_seqs, self._settings)
        return self._contexts[num_seqs]

    def _fill(self, prompt: Sequence[int], sequence: int = 0) -> None:
        self._batch.clear()
        for position, token_id in enumerate(prompt):
            self._batch.add(token_id, position, sequence, wants_logits=position == len(prompt) - 1)

    @staticmethod
    def _step(prompts: Sequence[Sequence[int]], step: int) -> _Batch:
        batch = _Batch(len(prompts))
        for sequence, prompt in enumerate(prompts):
            batch.add(prompt[step % len(prompt)], len(prompt) + step, sequence, wants_logits=True)
        return batch


def main() -> None:
    """Serve on the standard streams."""
    parser = worker_parser()
    parser.add_argument("--flash-attention", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--unified-kv", action=argparse.BooleanOptionalAction, default=False)
    arguments = parser.parse_args()
    channel = standard_channel()
    settings = Settings(
        num_threads=arguments.threads,
        has_flash_attention=arguments.flash_attention,
        has_unified_kv=arguments.unified_kv,
    )
    serve(LlamaEngine(arguments.model, settings), channel)


if __name__ == "__main__":
    main()
