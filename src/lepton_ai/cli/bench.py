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
from lepton_ai.cli.loading import OnDemandProgress, open_llm
from lepton_ai.cli.options import AllowConfigKeys, Json, ModelName, PolicyOption, Threads
from lepton_ai.cli.output import print_json, print_line
from lepton_ai.config import Environment, Policy
from lepton_ai.engine.llm import LLM
from lepton_ai.engine.model_info import ModelInfo
from lepton_ai.engine.sampling_params import SamplingParams
from lepton_ai.engine.stream import Stream
from lepton_ai.errors import InvalidRequest
from lepton_ai.models.encoder import EncoderModel
from lepton_ai.models.registry import read_model
from lepton_ai.weights.checkpoint import open_checkpoint
from lepton_ai.weights.sources.resolve import resolve

_OUTPUT_TOKENS = 128

PromptTokens = Annotated[
    int, typer.Option("--prompt-tokens", min=1, help="Random tokens in each prompt, or in each text of an encoder.")
]
OutputTokens = Annotated[
    int | None,
    typer.Option("--output-tokens", min=1, help="Tokens generated for each prompt. Default: 128.", show_default=False),
]
Concurrency = Annotated[int, typer.Option("--concurrency", min=1, help="Requests, or texts, that run together.")]
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
    output_tokens: OutputTokens = None,
    concurrency: Concurrency = 1,
    repeat: Repeat = 3,
    seed: Seed = 0,
    threads: Threads = None,
    policy: PolicyOption = Policy.AUTO,
    allow_config_key: AllowConfigKeys = None,
    json: Json = False,
) -> None:
    """Measure prefill and decoding on random prompts, or how fast an encoder reads random texts.

    Rates count the tokens of all requests together. Prefill lasts until every request has its first token; what is
    generated after that counts for decoding. The time to the first token is the median over requests, which all arrive
    at once. An encoder makes vectors: the mean of each text's tokens.

    \b
    Examples:
      lepton bench smollm2 --prompt-tokens 512 --output-tokens 128 --concurrency 4
      lepton bench minilm --prompt-tokens 128 --concurrency 32
    """
    options = _Options(model, prompt_tokens, concurrency, repeat, seed, threads, policy, tuple(allow_config_key or ()))
    if _is_encoder(options):
        if output_tokens is not None:
            raise InvalidRequest("--output-tokens: expected none for an encoder", param="output_tokens")
        result = _bench_encoder(options)
    else:
        result = _bench_decoder(options, output_tokens or _OUTPUT_TOKENS)
    result["peak_memory_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if json:
        print_json(result)
        return
    for name, value in result.items():
        print_line(f"{name:<22} {_shown(value)}")


@dataclass(frozen=True, slots=True)
class _Options:
    """The arguments that both kinds of models have."""

    model: str
    prompt_tokens: int
    concurrency: int
    repeat: int
    seed: int
    threads: int | None
    policy: Policy
    allow_config_keys: tuple[str, ...]

    def load(self, max_model_len: int) -> LLM:
        """The model, with room for what is asked of it and no more."""
        return open_llm(
            self.model,
            threads=self.threads,
            policy=self.policy,
            max_num_seqs=self.concurrency,
            max_model_len=max_model_len,
            allow_config_keys=self.allow_config_keys,
        )

    def described(self, info: ModelInfo) -> dict[str, object]:
        """What was run, and how."""
        return {
            "model": info.name,
            "digest": info.digest,
            "policy": info.policy,
            "num_threads": info.num_threads,
            "isa": info.isa,
            "concurrency": self.concurrency,
            "prompt_tokens": self.prompt_tokens,
            "repeat": self.repeat,
        }


def _is_encoder(options: _Options) -> bool:
    environment = Environment.read()
    with open_checkpoint(resolve(options.model, environment, OnDemandProgress()), environment.home) as checkpoint:
        model, _ = read_model(checkpoint, allowed_config_keys=options.allow_config_keys)
    return isinstance(model, EncoderModel)


def _bench_decoder(options: _Options, output_tokens: int) -> dict[str, object]:
    with options.load(options.prompt_tokens + output_tokens) as llm:
        prompts = _Prompts(llm, options.prompt_tokens, options.seed)
        params = SamplingParams(temperature=0.0, max_tokens=output_tokens, ignore_eos=True)
        _measure(llm, [prompts.draw()], params)  # touches the weights and starts the threads
        runs = [_measure(llm, prompts.draw_many(options.concurrency), params) for _ in range(options.repeat)]
        described = options.described(llm.model_info)
    decode = [run.decode_tokens_per_s for run in runs if run.decode_tokens_per_s is not None]
    return {
        **described,
        "output_tokens": output_tokens,
        "prefill_tokens_per_s": statistics.median(run.prefill_tokens_per_s for run in runs),
        "decode_tokens_per_s": statistics.median(decode) if decode else None,
        "time_to_first_token_s": statistics.median(run.time_to_first_token_s for run in runs),
    }


def _bench_encoder(options: _Options) -> dict[str, object]:
    with options.load(options.prompt_tokens) as llm:
        prompts = _Prompts(llm, options.prompt_tokens, options.seed)
        _time(llm, [prompts.draw()])  # touches the weights and starts the threads
        seconds = [_time(llm, prompts.draw_many(options.concurrency)) for _ in range(options.repeat)]
        described = options.described(llm.model_info)
    texts_per_s = options.concurrency / statistics.median(seconds)
    return {**described, "texts_per_s": texts_per_s, "tokens_per_s": texts_per_s * options.prompt_tokens}


def _time(llm: LLM, texts: list[Int32Array]) -> float:
    start = time.perf_counter()
    llm.embed(texts, pooling="mean", max_length=len(texts[0]))
    return time.perf_counter() - start


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

    def draw_many(self, count: int) -> list[Int32Array]:
        return [self.draw() for _ in range(count)]


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
