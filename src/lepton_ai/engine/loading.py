"""From a name to a model that runs: resolve, open, check, compile, and size the KV cache."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from lepton_ai.backends.base import Backend, Executable, KVCache
from lepton_ai.config import Environment, Limits, Policy
from lepton_ai.engine.memory import available_memory_bytes, plan_kv
from lepton_ai.errors import InvalidModel, InvalidRequest
from lepton_ai.graph.attrs import KVSpec
from lepton_ai.graph.passes.precision import kv_dtype
from lepton_ai.models.base import Head, Model
from lepton_ai.models.registry import read_model
from lepton_ai.text.tokenizer import Tokenizer
from lepton_ai.weights.checkpoint import Checkpoint, open_checkpoint
from lepton_ai.weights.packed import PackedCache
from lepton_ai.weights.sources.progress import NoProgress, Progress
from lepton_ai.weights.sources.resolve import resolve
from lepton_ai.weights.store import WeightStore, check_strict

_MIN_ROWS = 64
"""Rows of a step, whatever the number of sequences: who reads the logits of a whole prompt wants many at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """How to run a model: the arguments of ``LLM``. Raises InvalidRequest for a value out of range."""

    num_threads: int | None = None
    policy: Policy = Policy.AUTO
    backend: str = "cpu"
    max_num_seqs: int = 16
    max_tokens_per_step: int = 512
    max_model_len: int | None = None
    kv_memory_bytes: int | None = None
    allow_config_keys: tuple[str, ...] = ()
    progress: Progress = field(default_factory=NoProgress)

    def __post_init__(self) -> None:
        for name in ("num_threads", "max_num_seqs", "max_tokens_per_step", "max_model_len", "kv_memory_bytes"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise InvalidRequest(f"{name}: expected a positive integer, got {value!r}", param=name)

    def limits(self, max_model_len: int) -> Limits:
        """The maxima of a step."""
        return Limits(
            max_tokens=self.max_tokens_per_step,
            max_rows=max(self.max_num_seqs, min(_MIN_ROWS, self.max_tokens_per_step)),
            max_seqs=self.max_num_seqs,
            max_model_len=max_model_len,
        )


@dataclass(frozen=True, slots=True)
class ChosenDevice:
    """A backend with the threads it uses and the name of its instruction set."""

    backend: Backend
    num_threads: int
    isa: str


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model with its tokenizer, compiled to logits, and the KV cache for generating.

    ``store`` is the open ``checkpoint`` under the names that the model uses.
    """

    path: Path
    checkpoint: Checkpoint
    store: WeightStore
    model: Model
    tokenizer: Tokenizer
    options: LoadOptions
    limits: Limits
    device: ChosenDevice
    executable: Executable
    kv_specs: tuple[KVSpec, ...]
    cache: KVCache

    def compile(self, head: Head, limits: Limits) -> Executable:
        """The model with another head or other limits; weights that are packed already are shared."""
        return self.device.backend.compile(self.model.build(head=head), self.store, limits, policy=self.options.policy)

    def allocate_kv(self, num_blocks: int) -> KVCache:
        """Another KV cache."""
        return self.device.backend.allocate_kv(self.kv_specs, num_blocks)

    def close(self) -> None:
        """Close the checkpoint."""
        self.checkpoint.close()


def load(name_or_path: str | Path, options: LoadOptions, environment: Environment) -> LoadedModel:
    """Make a model ready to run. The tokenizer is made while the weights are packed.

    Raises ModelNotFound, DownloadFailed, InvalidModel (UnsupportedModel, WeightMismatch), HardwareUnsupported,
    StorageError, OutOfMemory.
    """
    device = choose_device(options, environment)
    path = resolve(name_or_path, environment, options.progress)
    checkpoint = open_checkpoint(path, environment.home)
    try:
        return _load(path, checkpoint, options, environment, device)
    except BaseException:
        checkpoint.close()
        raise


def choose_device(options: LoadOptions, environment: Environment) -> ChosenDevice:
    """The backend called ``options.backend`` on its device. Raises InvalidRequest, HardwareUnsupported."""
    match options.backend:
        case "cpu":
            from lepton_ai.backends.cpu.backend import CpuBackend
            from lepton_ai.backends.cpu.device import CpuDevice

            device = CpuDevice(num_threads=options.num_threads, isa=environment.cpu_isa)
            backend = CpuBackend(device, cache=PackedCache(environment.home), progress=options.progress)
            return ChosenDevice(backend, device.num_threads, device.isa)
        case "reference":
            from lepton_ai.backends.reference.backend import ReferenceBackend

            return ChosenDevice(ReferenceBackend(), 1, "numpy")
        case other:
            raise InvalidRequest(f"backend: expected cpu or reference, got {other!r}", param="backend")


def _load(
    path: Path, checkpoint: Checkpoint, options: LoadOptions, environment: Environment, device: ChosenDevice
) -> LoadedModel:
    model, store = read_model(checkpoint, allowed_config_keys=options.allow_config_keys)
    graph = model.build(head="logits")
    check_strict(store, graph.weights(), model.ignorable_names())
    specs = tuple(replace(spec, dtype=kv_dtype(options.policy)) for spec in model.kv_specs())
    kv_plan = plan_kv(
        specs,
        model.config.context_length,
        available_memory_bytes(),
        max_num_seqs=options.max_num_seqs,
        max_model_len=options.max_model_len,
        kv_memory_bytes=options.kv_memory_bytes,
    )
    limits = options.limits(kv_plan.max_model_len)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(Tokenizer.from_checkpoint, checkpoint, cache_dir=environment.home / "tokenizers")
        executable = device.backend.compile(graph, store, limits, policy=options.policy)
    tokenizer = reading.result()
    if tokenizer.vocab_size > model.config.vocab_size:
        raise InvalidModel(
            f"{path}: expected a tokenizer of at most {model.config.vocab_size} tokens, as many as the model has "
            f"embeddings, got one of {tokenizer.vocab_size}",
            param="model",
        )
    return LoadedModel(
        path=path,
        checkpoint=checkpoint,
        store=store,
        model=model,
        tokenizer=tokenizer,
        options=options,
        limits=limits,
        device=device,
        executable=executable,
        kv_specs=specs,
        cache=device.backend.allocate_kv(specs, kv_plan.num_blocks),
    )
