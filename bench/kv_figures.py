"""What blocks of 16 tokens cost, and what a cached prefix saves.

    python -m bench.kv_figures [--model smollm2] [--runs 9]

A prompt begins with 1,000 tokens that were never seen, and is sent twice, the second time with another end. Slots are
counted in the blocks of 64 requests of 64 to 1,024 tokens, every length as likely as any other.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence

import numpy as np

from bench.figures import Figure, add_output_options, report
from bench.peers.workloads import FIRST_ORDINARY_ID
from lepton_ai import LLM, SamplingParams
from lepton_ai.backends.base import BLOCK_SIZE
from lepton_ai.engine.kv.group import KVGroup, num_blocks_for
from lepton_ai.engine.kv.manager import KVManager
from lepton_ai.engine.request import Request

MAX_CACHED_SHARE = 0.1
MAX_UNFILLED_SHARE = 0.04

_PREFIX_TOKENS, _END_TOKENS = 1000, 8
_NUM_REQUESTS, _LENGTHS = 64, (64, 1024)


def first_token_seconds(llm: LLM, prompt: Sequence[int]) -> float:
    """Seconds from a call to its first token."""
    begin = time.perf_counter()
    stream = llm.stream(prompt, SamplingParams(temperature=0.0, max_tokens=1, ignore_eos=True))
    next(iter(stream))
    return time.perf_counter() - begin


def cold_and_cached_seconds(llm: LLM, *, num_runs: int) -> tuple[float, float]:
    """Medians of the time to the first token, without the beginning in the cache and with it."""
    rng = np.random.default_rng(0)

    def draw(count: int) -> list[int]:
        tokens: list[int] = rng.integers(FIRST_ORDINARY_ID, llm.model_info.vocab_size, count).tolist()
        return tokens

    pairs = []
    for _ in range(num_runs + 1):
        prefix = draw(_PREFIX_TOKENS)
        cold, cached = (first_token_seconds(llm, [*prefix, *draw(_END_TOKENS)]) for _ in range(2))
        pairs.append((cold, cached))
    # The first run touches memory for the first time.
    return statistics.median(cold for cold, _ in pairs[1:]), statistics.median(cached for _, cached in pairs[1:])


def unfilled_share(lengths: Sequence[int]) -> float:
    """Of the slots in blocks that requests with so many computed tokens hold, the share without a token."""
    kv = KVManager([KVGroup(sum(map(num_blocks_for, lengths)))])
    for index, length in enumerate(lengths):
        tokens = np.full(length, index, np.int32)
        request = Request.create(tokens, SamplingParams(), max_tokens=length + 1)
        kv.attach(request)
        assert kv.extend(request, length)
    return 1 - sum(lengths) / (kv.pools[0].num_held * BLOCK_SIZE)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.kv_figures", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--runs", type=int, default=9)
    add_output_options(parser)
    arguments = parser.parse_args()
    with LLM(arguments.model) as llm:
        cold, cached = cold_and_cached_seconds(llm, num_runs=arguments.runs)
    print(f"{arguments.model}: first token after {cold * 1e3:.1f} ms cold, {cached * 1e3:.1f} ms cached")
    low, high = _LENGTHS
    lengths = np.random.default_rng(0).integers(low, high + 1, _NUM_REQUESTS).tolist()
    figures = [
        Figure(
            f"{arguments.model}: first token with {_PREFIX_TOKENS} tokens cached, share of the time without",
            cached / cold,
            MAX_CACHED_SHARE,
            "",
        ),
        Figure(
            f"slots without a token, {_NUM_REQUESTS} requests of {low} to {high} tokens",
            100 * unfilled_share(lengths),
            100 * MAX_UNFILLED_SHARE,
            "%",
        ),
    ]
    return report(figures, arguments)


if __name__ == "__main__":
    sys.exit(main())
