"""A decoder that is ready to generate: compiled to logits, with its KV cache."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lepton_ai.backends.base import Backend, Executable, KVCache
from lepton_ai.config import Limits, Policy
from lepton_ai.engine.kv.sizing import available_memory_bytes, plan_kv
from lepton_ai.engine.load_options import LoadOptions
from lepton_ai.graph.attrs import KVSpec, kv_groups
from lepton_ai.graph.tensor import DType
from lepton_ai.models.base import Head
from lepton_ai.models.decoder import DecoderModel
from lepton_ai.phases import phase
from lepton_ai.weights.store import WeightStore, check_strict


@dataclass(frozen=True, slots=True)
class Decoder:
    """``executable`` gives logits; ``cache`` is that for generating, of elements ``kv_dtype``."""

    model: DecoderModel
    store: WeightStore
    backend: Backend
    policy: Policy
    kv_dtype: DType
    limits: Limits
    executable: Executable
    kv_specs: tuple[KVSpec, ...]
    cache: KVCache

    @property
    def kv_bytes(self) -> int:
        """Bytes reserved for the cache."""
        return self.cache.num_bytes

    def compile(self, head: Head, limits: Limits) -> Executable:
        """The model with another head or other limits; weights that are packed already are shared."""
        graph = self.model.build(head=head)
        return self.backend.compile(graph, self.store, limits, policy=self.policy, kv_dtype=self.kv_dtype)

    def allocate_kv(self, num_blocks: int) -> KVCache:
        """Another KV cache, of ``num_blocks`` blocks in each group."""
        return self.backend.allocate_kv(self.kv_specs, [num_blocks] * len(kv_groups(self.kv_specs)))


def make_decoder(model: DecoderModel, store: WeightStore, backend: Backend, options: LoadOptions) -> Decoder:
    """Compile ``model`` and size its KV cache. Raises WeightMismatch, InvalidRequest, OutOfMemory."""
    with phase("graph", options.on_phase):
        graph = model.build(head="logits")
        check_strict(store, graph.weights(), model.ignorable_names())
    dtype = backend.kv_dtype(options.policy, options.kv_dtype)
    specs = tuple(replace(spec, dtype=dtype) for spec in model.kv_specs())
    kv_plan = plan_kv(
        specs,
        model.config.context_length,
        _available_bytes(options),
        max_num_seqs=options.max_requests,
        max_tokens_per_step=options.max_tokens_per_step,
        max_model_len=options.max_model_len,
        kv_memory_bytes=options.kv_memory_bytes,
    )
    limits = options.decoder_limits(kv_plan.max_model_len)
    return Decoder(
        model=model,
        store=store,
        backend=backend,
        policy=options.policy,
        kv_dtype=dtype,
        limits=limits,
        executable=backend.compile(graph, store, limits, policy=options.policy, kv_dtype=dtype),
        kv_specs=specs,
        cache=backend.allocate_kv(specs, kv_plan.num_blocks),
    )


def _available_bytes(options: LoadOptions) -> int:
    """What the machine has to spare, within the budget of a device that models share."""
    available = available_memory_bytes()
    left = None if options.device is None else options.device.cpu.memory.free_bytes
    return available if left is None else min(available, left)
