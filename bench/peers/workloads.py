"""What models that generate are measured on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from bench.serving import BenchEngine
from bench.worker import Worker

FIRST_ORDINARY_ID = 100
"""Lower ids are control tokens in the models that we compare on."""

TokenLists = list[list[int]]


class Workload(Protocol):
    """What two workers are asked in turn."""

    @property
    def name(self) -> str:
        """Of the table."""
        ...

    @property
    def unit(self) -> str:
        """Of a rate: tok/s or seq/s."""
        ...

    def draw(self, rng: np.random.Generator, vocab_size: int) -> TokenLists:
        """Fresh inputs."""
        ...

    def run(self, worker: Worker, inputs: TokenLists) -> float:
        """Units a second."""
        ...


@dataclass(frozen=True, slots=True)
class Launch:
    """A process from its start to its end, one token later: its seconds, or the peak of its memory in bytes. Of both,
    less is better: what is compared are their inverses.
    """

    name: str
    is_memory: bool

    @property
    def unit(self) -> str:
        """Of the inverse."""
        return "1/B" if self.is_memory else "1/s"


FIRST_TOKEN = Launch("first token", is_memory=False)
PEAK_MEMORY = Launch("peak memory", is_memory=True)


@dataclass(frozen=True, slots=True)
class Generation:
    """Random prompts: ``num_seqs`` of ``prompt_tokens`` each. ``output_tokens`` 0 measures their prefill."""

    unit: ClassVar[str] = "tok/s"

    name: str
    num_seqs: int
    prompt_tokens: int
    output_tokens: int

    def tokens_per_run(self) -> int:
        """Tokens that a run is timed over."""
        return self.num_seqs * (self.output_tokens or self.prompt_tokens)

    def run(self, worker: BenchEngine, inputs: TokenLists) -> float:
        """Tokens a second."""
        seconds = worker.decode(inputs, self.output_tokens) if self.output_tokens else worker.prefill(inputs[0])
        return self.tokens_per_run() / seconds

    def draw(self, rng: np.random.Generator, vocab_size: int) -> TokenLists:
        """Fresh prompts; no two runs share a prefix that a cache could keep."""
        shape = (self.num_seqs, self.prompt_tokens)
        prompts: TokenLists = rng.integers(FIRST_ORDINARY_ID, vocab_size - FIRST_ORDINARY_ID, shape).tolist()
        return prompts


PREFILL = Generation("prefill 512", num_seqs=1, prompt_tokens=512, output_tokens=0)
LONG_PREFILL = Generation("prefill 4096", num_seqs=1, prompt_tokens=4096, output_tokens=0)
DECODE = Generation("decode 1", num_seqs=1, prompt_tokens=512, output_tokens=64)
DECODE_4, DECODE_16, DECODE_32 = (
    Generation(f"decode {n}", num_seqs=n, prompt_tokens=512 // n if n > 16 else 32, output_tokens=32)
    for n in (4, 16, 32)
)
DECODE_AFTER = tuple(
    Generation(f"decode 1 after {n}", num_seqs=1, prompt_tokens=n, output_tokens=64) for n in (64, 1024, 4096)
)
"""With so many tokens in the KV cache, and those that come."""
