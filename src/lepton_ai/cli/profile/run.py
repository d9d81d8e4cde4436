"""Runs the steps that are profiled: some that decode, and some that read a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from lepton_ai.backends.base import Int32Array
from lepton_ai.backends.cpu.backend import CpuBackend
from lepton_ai.backends.cpu.device import CpuDevice
from lepton_ai.backends.cpu.executable import CpuExecutable
from lepton_ai.cli.profile.limits import StepLimits, measure_step_limits
from lepton_ai.cli.profile.recorder import RecordedStep, StepRecorder
from lepton_ai.cli.profile.summary import StepProfile, fastest_quarter, summarize
from lepton_ai.cli.random_prompts import RandomPrompts
from lepton_ai.engine.decoder import Decoder
from lepton_ai.engine.generator import Generator
from lepton_ai.engine.loading import LoadedModel
from lepton_ai.engine.local_client import LocalClient
from lepton_ai.engine.sampling_params import SamplingParams
from lepton_ai.engine.stream import Stream
from lepton_ai.errors import InvalidRequest

_WARM_UP_STEPS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileLoad:
    """What is run: ``num_prompts`` are read one by one, and one request and then ``concurrency`` together decode."""

    prompt_tokens: int
    output_tokens: int
    concurrency: int
    num_prompts: int
    seed: int

    @property
    def max_model_len(self) -> int:
        """Tokens of a request."""
        return self.prompt_tokens + _WARM_UP_STEPS + self.output_tokens


@dataclass(frozen=True, slots=True)
class ModelProfile:
    """Kinds of steps, and the rates that their limits come from."""

    steps: tuple[StepProfile, ...]
    limits: StepLimits

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        peaks = [
            {"weight_type": kind.value, "num_rows": num_rows, "macs_per_s": rate}
            for (kind, num_rows), rate in self.limits.peaks.items()
        ]
        limits = {**asdict(self.limits.bandwidth), "peaks": peaks}
        return {"limits": limits, "steps": [asdict(step) for step in self.steps]}


def profile(loaded: LoadedModel, load: ProfileLoad) -> ModelProfile:
    """Run ``load`` and measure the machine. Raises InvalidRequest for a model that does not run so."""
    decoder = loaded.runtime
    if not isinstance(decoder, Decoder):
        raise InvalidRequest("--profile: expected a model that generates, got an encoder", param="profile")
    executable = decoder.executable
    if not isinstance(executable, CpuExecutable):
        raise InvalidRequest("--profile: expected the backend cpu", param="profile")
    recorder = StepRecorder(executable)
    watched = replace(decoder, executable=recorder)
    texts = loaded.texts
    client = Generator(watched, texts.tokenizer, texts.eos_ids).client
    prompts = RandomPrompts(texts.tokenizer, load.seed)
    try:
        kinds = _run(client, recorder, prompts, load)
    finally:
        client.close()
        executable.set_timing(enabled=False)
    return _summarize(kinds, executable, loaded, decoder)


def _run(
    client: LocalClient, recorder: StepRecorder, prompts: RandomPrompts, load: ProfileLoad
) -> dict[str, list[list[RecordedStep]]]:
    """Steps by what they are, in runs that do the same."""
    kinds: dict[str, list[list[RecordedStep]]] = {}
    for num_rows in sorted({1, load.concurrency}):
        title = f"decoding, {num_rows} row{'s' * (num_rows > 1)}, {load.prompt_tokens} tokens and more in the cache"
        steps = _decode(client, recorder, prompts.draw_many(load.prompt_tokens, num_rows), load.output_tokens)
        kinds[title] = [[step] for step in steps]
    reads = [_read(client, recorder, prompt) for prompt in prompts.draw_many(load.prompt_tokens, load.num_prompts)]
    title = f"reading a prompt of {load.prompt_tokens} tokens"
    num_steps = len(reads[0])
    if num_steps > 1:
        title += f", a mean step of {num_steps}"
    kinds[title] = reads
    return kinds


def _decode(
    client: LocalClient, recorder: StepRecorder, prompts: Sequence[Int32Array], num_steps: int
) -> list[RecordedStep]:
    """Steps in which each prompt gets a token and nothing else is computed."""
    params = SamplingParams(temperature=0.0, max_tokens=_WARM_UP_STEPS + num_steps, ignore_eos=True)
    recorder.begin()
    streams = [Stream(client, generation) for generation in client.submit_all(prompts, [params] * len(prompts))]
    for _ in range(params.max_tokens or 0):  # a token of each in turn: the first runs the step
        for stream in streams:
            next(stream, None)
    _drain(streams)
    ones = (1,) * len(prompts)
    steps = [step for step in recorder.take() if step.shape.query_lengths == ones][_WARM_UP_STEPS - 1 :]
    if not steps:
        problem = f"expected room for {len(prompts)} requests that run together to their ends"
        raise InvalidRequest(f"--kv-memory: {problem}", param="kv_memory_bytes")
    return steps


def _read(client: LocalClient, recorder: StepRecorder, prompt: Int32Array) -> list[RecordedStep]:
    params = SamplingParams(temperature=0.0, max_tokens=1, ignore_eos=True)
    recorder.begin()
    _drain([Stream(client, client.submit(prompt, params))])
    return recorder.take()


def _drain(streams: Sequence[Stream]) -> None:
    for stream in streams:
        for _ in stream:
            pass


def _summarize(
    kinds: dict[str, list[list[RecordedStep]]], executable: CpuExecutable, loaded: LoadedModel, decoder: Decoder
) -> ModelProfile:
    ops = executable.ops
    types = {weight.name: decoder.store.get(weight.name).type for weight in executable.plan.graph.weights()}
    backend = CpuBackend(CpuDevice(num_threads=loaded.device.num_threads, isa=loaded.device.isa))
    limits = measure_step_limits(
        backend,
        (op.work(step.shape) for runs in kinds.values() for steps in runs for step in steps for op in ops),
        types,
        weight_bytes=executable.weight_bytes,
        policy=decoder.policy,
    )
    steps = (summarize(title, fastest_quarter(runs), ops, limits) for title, runs in kinds.items())
    return ModelProfile(tuple(steps), limits)
