"""``lepton bench``."""

from __future__ import annotations

import resource
import statistics
import time
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import typer

from lepton_ai.backends.base import Int32Array
from lepton_ai.cli.loading import OnDemandProgress
from lepton_ai.cli.options import AllowConfigKeys, Json, ModelName, PolicyOption, Threads
from lepton_ai.cli.output import print_json, print_line
from lepton_ai.config import Policy
from lepton_ai.engine.llm import LLM
from lepton_ai.engine.sampling_params import SamplingParams
from lepton_ai.engine.stream import Stream

PromptTokens = Annotated[int, typer.Option("--prompt-tokens", min=1, help="Random tokens in each prompt.")]
OutputTokens = Annotated[int, typer.Option("--output-tokens", min=1, help="Tokens generated for each prompt.")]
Concurrency = Annotated[int, typer.Option("--concurrency", min=1, help="Requests that run together.")]
Repeat = Annotated[int, typer.Option("--repeat", min=1, help="Runs; medians are reported.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of the random prompts.")]


@dataclass(frozen=True, slots=True)
class _Rates:
    prefill_tokens_per_s: float
    decode_tokens_per_s: float | None
    time_to_first_token_s: float


def bench(
    model: ModelName,
    *,
    prompt_tokens: PromptTokens = 512,
    output_tokens: OutputTokens = 128,
    concurrency: Concurrency = 1,
    repeat: Repeat = 3,
    seed: Seed = 0,
    threads: Threads = None,
    policy: PolicyOption = Policy.AUTO,
    allow_config_key: AllowConfigKeys = None,
    json: Json = False,
) -> None:
    """Measure prefill and decoding on random prompts. Rates count the tokens of all requests together.

    Prefill lasts until every request has its first token; what is generated after that counts for decoding. The time
    to the first token is the median over requests, which all arrive at once.

    \b
    Example:
      lepton bench smollm2 --prompt-tokens 512 --output-tokens 128 --concurrency 4
    """
    with LLM(
        model,
        num_threads=threads,
        policy=policy,
        max_num_seqs=concurrency,
        max_model_len=prompt_tokens + output_tokens,
        allow_config_keys=allow_config_key or (),
        progress=OnDemandProgress(),
    ) as llm:
        prompts = _Prompts(llm, prompt_tokens, seed)
        params = SamplingParams(temperature=0.0, max_tokens=output_tokens, ignore_eos=True)
        _measure(llm, [prompts.draw()], params)  # touches the weights and starts the threads
        runs = [_measure(llm, [prompts.draw() for _ in range(concurrency)], params) for _ in range(repeat)]
        info = llm.model_info
    decode = [run.decode_tokens_per_s for run in runs if run.decode_tokens_per_s is not None]
    result: dict[str, object] = {
        "model": info.name,
        "digest": info.digest,
        "policy": info.policy,
        "num_threads": info.num_threads,
        "isa": info.isa,
        "concurrency": concurrency,
        "prompt_tokens": prompt_tokens,
        "output_tokens": output_tokens,
        "repeat": repeat,
        "prefill_tokens_per_s": statistics.median(run.prefill_tokens_per_s for run in runs),
        "decode_tokens_per_s": statistics.median(decode) if decode else None,
        "time_to_first_token_s": statistics.median(run.time_to_first_token_s for run in runs),
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    if json:
        print_json(result)
        return
    for name, value in result.items():
        print_line(f"{name:<22} {_shown(value)}")


class _Prompts:
    """Random prompts of ordinary tokens, no two alike, so that none finds its prefix in the cache."""

    def __init__(self, llm: LLM, length: int, seed: int) -> None:
        tokenizer = llm.tokenizer
        ids = [i for i in range(tokenizer.vocab_size) if not tokenizer.is_control(i)]
        self._ids = np.array(ids, np.int32)
        self._length = length
        self._rng = np.random.default_rng(seed)

    def draw(self) -> Int32Array:
        return self._rng.choice(self._ids, self._length)


def _measure(llm: LLM, prompts: list[Int32Array], params: SamplingParams) -> _Rates:
    start = time.perf_counter()
    streams = [llm.stream(prompt, params) for prompt in prompts]
    first_token_s = []
    for stream in streams:
        next(stream)
        first_token_s.append(time.perf_counter() - start)
    prefilled = time.perf_counter()
    num_before = _count(streams)
    for stream in streams:
        for _ in stream:
            pass
    num_decoded, decode_s = _count(streams) - num_before, time.perf_counter() - prefilled
    return _Rates(
        prefill_tokens_per_s=sum(map(len, prompts)) / (prefilled - start),
        decode_tokens_per_s=num_decoded / decode_s if num_decoded else None,
        time_to_first_token_s=statistics.median(first_token_s),
    )


def _count(streams: list[Stream]) -> int:
    return sum(stream.num_output_tokens for stream in streams)


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if value < 1 else f"{value:.1f}"
    return "-" if value is None else str(value)
