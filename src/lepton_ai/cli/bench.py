"""``lepton bench``."""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from lepton_ai.backends.base import Int32Array
from lepton_ai.cli.loading import OnDemandProgress, open_llm
from lepton_ai.cli.options import AllowConfigKeys, Json, KVDType, KVMemory, ModelName, PolicyOption, Threads
from lepton_ai.cli.output import print_json, print_line, print_note
from lepton_ai.cli.profile.run import ProfileLoad
from lepton_ai.cli.profile.run import profile as profile_steps
from lepton_ai.cli.profile.table import print_profile
from lepton_ai.cli.random_prompts import RandomPrompts
from lepton_ai.cli.trace.load import MAX_MODEL_LEN, MAX_NUM_SEQS
from lepton_ai.cli.trace.run import check_trace_path, trace_load
from lepton_ai.config import Environment, Policy
from lepton_ai.engine.llm import LLM
from lepton_ai.engine.load_options import LoadOptions
from lepton_ai.engine.loading import LoadedModel, load
from lepton_ai.engine.model_info import ModelInfo, model_info
from lepton_ai.engine.sampling_params import SamplingParams
from lepton_ai.engine.stream import Stream
from lepton_ai.errors import InvalidRequest
from lepton_ai.models.encoder import EncoderModel
from lepton_ai.models.family import Model
from lepton_ai.models.registry import read_model
from lepton_ai.weights.checkpoint import open_checkpoint
from lepton_ai.weights.sources.resolve import resolve

_PROMPT_TOKENS, _OUTPUT_TOKENS, _CONCURRENCY, _REPEAT = 512, 128, 1, 3
_PROFILE_CONCURRENCY = 16

# None tells what was not given: --trace has a load of its own.
PromptTokens = Annotated[
    int | None,
    typer.Option(
        "--prompt-tokens",
        min=1,
        help="Random tokens in each prompt, or in each text of an encoder. Default: 512.",
        show_default=False,
    ),
]
OutputTokens = Annotated[
    int | None,
    typer.Option("--output-tokens", min=1, help="Tokens generated for each prompt. Default: 128.", show_default=False),
]
Concurrency = Annotated[
    int | None,
    typer.Option("--concurrency", min=1, help="Requests, or texts, that run together. Default: 1.", show_default=False),
]
Repeat = Annotated[
    int | None,
    typer.Option("--repeat", min=1, help="Runs; medians are reported. Default: 3.", show_default=False),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of the random prompts.")]
Trace = Annotated[
    Path | None,
    typer.Option(
        "--trace",
        metavar="FILE",
        help="Run a mixed load instead, and draw what the engine did: .svg, .html, or .json for Perfetto.",
    ),
]
Profile = Annotated[
    bool,
    typer.Option(
        "--profile",
        help="Show instead where the time of a step goes, op by op, beside the least that this machine could take.",
    ),
]


@dataclass(frozen=True, slots=True)
class _Rates:
    prefill_tokens_per_s: float
    decode_tokens_per_s: float | None
    time_to_first_token_s: float


def bench(
    model: ModelName,
    *,
    prompt_tokens: PromptTokens = None,
    output_tokens: OutputTokens = None,
    concurrency: Concurrency = None,
    repeat: Repeat = None,
    seed: Seed = 0,
    trace: Trace = None,
    profile: Profile = False,
    threads: Threads = None,
    policy: PolicyOption = Policy.AUTO,
    kv_dtype: KVDType = None,
    kv_memory: KVMemory = None,
    allow_config_key: AllowConfigKeys = None,
    json: Json = False,
) -> None:
    """Measure prefill and decoding on random prompts, or how fast an encoder reads random texts.

    Rates count the tokens of all requests together. Prefill lasts until every request has its first token; what is
    generated after that counts for decoding. The time to the first token is the median over requests, which all arrive
    at once. An encoder makes vectors: the mean of each text's tokens.

    With --trace, twelve requests come one after another: long and short prompts, some with a common beginning, one of
    them urgent. The file shows for each when it waited and ran, and where the time of the engine's steps went.

    With --profile, steps of 1 request and of --concurrency (16) that decode, and those that read --repeat prompts, are
    taken apart: what each op moves and multiplies, its time, and what that would take at the rates of `lepton doctor
    --limits`. Figures are means over the fastest quarter of the steps, and of the prompts.

    \b
    Examples:
      lepton bench smollm2 --prompt-tokens 512 --output-tokens 128 --concurrency 4
      lepton bench minilm --prompt-tokens 128 --concurrency 32
      lepton bench smollm2 --trace engine.html
      lepton bench smollm2 --profile
    """
    if trace is not None:
        lengths = {"prompt-tokens": prompt_tokens, "output-tokens": output_tokens}
        _refuse_beside_trace(lengths | {"concurrency": concurrency, "repeat": repeat, "profile": profile or None})
        check_trace_path(trace)
    options = _Options(
        model=model,
        prompt_tokens=prompt_tokens or _PROMPT_TOKENS,
        concurrency=concurrency or (_PROFILE_CONCURRENCY if profile else _CONCURRENCY),
        repeat=repeat or _REPEAT,
        seed=seed,
        threads=threads,
        policy=policy,
        kv_dtype=kv_dtype,
        kv_memory_bytes=kv_memory,
        allow_config_keys=tuple(allow_config_key or ()),
    )
    if profile:
        _profile(options, output_tokens or _OUTPUT_TOKENS, as_json=json)
    else:
        _report(_measured(options, output_tokens, trace), as_json=json)


def _measured(options: _Options, output_tokens: int | None, trace: Path | None) -> dict[str, object]:
    if trace is not None:
        return _trace(options, trace)
    if not isinstance(_read(options), EncoderModel):
        return _bench_decoder(options, output_tokens or _OUTPUT_TOKENS)
    if output_tokens is not None:
        raise InvalidRequest("--output-tokens: expected none for an encoder", param="output_tokens")
    return _bench_encoder(options)


def _report(result: dict[str, object], *, as_json: bool) -> None:
    result["peak_memory_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if as_json:
        print_json(result)
    else:
        _print_lines(result)


def _print_lines(result: dict[str, object]) -> None:
    for name, value in result.items():
        parts = {f"{name}, {part}": each for part, each in value.items()} if isinstance(value, dict) else {name: value}
        for label, each in parts.items():
            print_line(f"{label:<25} {_shown(each)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options:
    """The arguments that both kinds of models have."""

    model: str
    prompt_tokens: int
    concurrency: int
    repeat: int
    seed: int
    threads: int | None
    policy: Policy
    kv_dtype: str | None
    kv_memory_bytes: int | None
    allow_config_keys: tuple[str, ...]

    def load(self, max_model_len: int) -> LLM:
        """The model, with room for what is asked of it and no more."""
        return open_llm(
            self.model,
            threads=self.threads,
            policy=self.policy,
            max_num_seqs=self.concurrency,
            max_model_len=max_model_len,
            kv_dtype=self.kv_dtype,
            kv_memory_bytes=self.kv_memory_bytes,
            allow_config_keys=self.allow_config_keys,
        )

    @contextmanager
    def load_model(self, max_model_len: int) -> Iterator[LoadedModel]:
        """The model without what runs requests."""
        values = {
            "num_threads": self.threads,
            "policy": self.policy,
            "max_num_seqs": self.concurrency,
            "max_model_len": max_model_len,
            "kv_dtype": self.kv_dtype,
            "kv_memory_bytes": self.kv_memory_bytes,
            "allow_config_keys": self.allow_config_keys,
        }
        environment = Environment.read()
        chosen = LoadOptions.from_values(values, environment, device=None, progress=OnDemandProgress())
        loaded = load(self.model, chosen, environment)
        try:
            yield loaded
        finally:
            loaded.close()

    def described(self, info: ModelInfo) -> dict[str, object]:
        """What was run, and how."""
        return {
            **_described(info),
            "concurrency": self.concurrency,
            "prompt_tokens": self.prompt_tokens,
            "repeat": self.repeat,
        }


def _described(info: ModelInfo) -> dict[str, object]:
    return {
        "model": info.name,
        "digest": info.digest,
        "policy": info.policy,
        "kv_dtype": info.kv_dtype,
        "num_threads": info.num_threads,
        "isa": info.isa,
    }


def _read(options: _Options) -> Model:
    environment = Environment.read()
    with open_checkpoint(resolve(options.model, environment, OnDemandProgress()), environment.home) as checkpoint:
        model, _ = read_model(checkpoint, allowed_config_keys=options.allow_config_keys)
    return model


def _refuse_beside_trace(options: Mapping[str, int | None]) -> None:
    """Raise InvalidRequest for an option that shapes the other load."""
    for name, value in options.items():
        if value is not None:
            raise InvalidRequest(f"--{name}: expected none with --trace, which has a load of its own", param=name)


def _trace(options: _Options, path: Path) -> dict[str, object]:
    model = _read(options)
    if isinstance(model, EncoderModel):
        raise InvalidRequest("--trace: expected a model that generates, got an encoder", param="trace")
    max_model_len = min(MAX_MODEL_LEN, model.config.context_length)
    with replace(options, concurrency=MAX_NUM_SEQS).load(max_model_len) as llm:
        summary = trace_load(llm, path, options.seed)
        described = _described(llm.model_info)
    print_note(f"wrote {path}")
    return described | {"trace": str(path)} | summary.to_dict()


def _profile(options: _Options, output_tokens: int, *, as_json: bool) -> None:
    load = ProfileLoad(
        prompt_tokens=options.prompt_tokens,
        output_tokens=output_tokens,
        concurrency=options.concurrency,
        num_prompts=options.repeat,
        seed=options.seed,
    )
    with options.load_model(load.max_model_len) as loaded:
        described = options.described(model_info(options.model, loaded))
        profile = profile_steps(loaded, load)
    if as_json:
        print_json(described | {"output_tokens": output_tokens} | profile.to_dict())
    else:
        print_profile(profile)


def _bench_decoder(options: _Options, output_tokens: int) -> dict[str, object]:
    with options.load(options.prompt_tokens + output_tokens) as llm:
        length, prompts = options.prompt_tokens, RandomPrompts(llm.tokenizer, options.seed)
        params = SamplingParams(temperature=0.0, max_tokens=output_tokens, ignore_eos=True)
        _measure(llm, [prompts.draw(length)], params)  # touches the weights and starts the threads
        runs = [_measure(llm, prompts.draw_many(length, options.concurrency), params) for _ in range(options.repeat)]
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
        length, prompts = options.prompt_tokens, RandomPrompts(llm.tokenizer, options.seed)
        _time(llm, [prompts.draw(length)])  # touches the weights and starts the threads
        seconds = [_time(llm, prompts.draw_many(length, options.concurrency)) for _ in range(options.repeat)]
        described = options.described(llm.model_info)
    texts_per_s = options.concurrency / statistics.median(seconds)
    return {**described, "texts_per_s": texts_per_s, "tokens_per_s": texts_per_s * options.prompt_tokens}


def _time(llm: LLM, texts: list[Int32Array]) -> float:
    start = time.perf_counter()
    llm.embed(texts, pooling="mean", max_length=len(texts[0]))
    return time.perf_counter() - start


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
