"""What is compared, and by how much Lepton should win."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bench.serving import BenchEngine

FIRST_ORDINARY_ID = 100
"""Lower ids are control tokens in the models that we compare on."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Random prompts: ``num_seqs`` of ``prompt_tokens`` each. ``output_tokens`` 0 measures their prefill."""

    name: str
    num_seqs: int
    prompt_tokens: int
    output_tokens: int

    def tokens_per_run(self) -> int:
        """Tokens that a run is timed over."""
        return self.num_seqs * (self.output_tokens or self.prompt_tokens)

    def run(self, engine: BenchEngine, prompts: list[list[int]]) -> float:
        """Tokens a second."""
        seconds = engine.decode(prompts, self.output_tokens) if self.output_tokens else engine.prefill(prompts[0])
        return self.tokens_per_run() / seconds

    def draw_prompts(self, rng: np.random.Generator, vocab_size: int) -> list[list[int]]:
        """Fresh prompts; no two runs share a prefix that a cache could keep."""
        shape = (self.num_seqs, self.prompt_tokens)
        prompts: list[list[int]] = rng.integers(FIRST_ORDINARY_ID, vocab_size - FIRST_ORDINARY_ID, shape).tolist()
        return prompts


PREFILL = Workload("prefill 512", num_seqs=1, prompt_tokens=512, output_tokens=0)
DECODE = Workload("decode, 1 request", num_seqs=1, prompt_tokens=512, output_tokens=64)
DECODE_4, DECODE_16, DECODE_32 = (
    Workload(f"decode, {n} requests", num_seqs=n, prompt_tokens=512 // n if n > 16 else 32, output_tokens=32)
    for n in (4, 16, 32)
)


@dataclass(frozen=True, slots=True)
class Case:
    """A workload on one form of the model, with the ratio of rates that Lepton should reach."""

    form: str
    workload: Workload
    target_ratio: float


CASES = (
    Case("Q4_1", PREFILL, 3.0),
    Case("Q4_1", DECODE, 1.7),
    Case("Q4_0", PREFILL, 2.5),
    Case("Q4_0", DECODE, 1.5),
    Case("Q4_0", DECODE_4, 1.8),
    Case("Q4_0", DECODE_16, 2.2),
    Case("Q4_0", DECODE_32, 2.2),
)
"""SmolLM2 as published, and the form that llama.cpp has its fastest kernels for."""


def cases_by_form() -> Iterator[tuple[str, list[Case]]]:
    """The cases in order, together if they are on the same file."""
    for form in dict.fromkeys(case.form for case in CASES):
        yield form, [case for case in CASES if case.form == form]
