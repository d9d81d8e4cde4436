"""The CPU backend: passes, packing, encoding."""

from __future__ import annotations

from collections.abc import Sequence

from lepton_ai.backends.cpu.device import BF16_TILE_ISAS, BYTE_PRODUCT_ISAS, CpuDevice
from lepton_ai.backends.cpu.executable import CpuExecutable
from lepton_ai.backends.cpu.kv_cache import CpuKVCache
from lepton_ai.backends.cpu.packing import Packer
from lepton_ai.config import Limits, Policy
from lepton_ai.graph.attrs import KVSpec
from lepton_ai.graph.graph import Graph
from lepton_ai.graph.passes import lower
from lepton_ai.graph.passes.precision import kv_dtype
from lepton_ai.graph.tensor import DType
from lepton_ai.phases import PhaseObserver, phase
from lepton_ai.weights.packed import PackedCache
from lepton_ai.weights.sources.progress import NoProgress, Progress
from lepton_ai.weights.store import WeightStore


def default_kv_dtype(policy: Policy, isa: str) -> DType:
    """What the KV cache holds under ``policy`` where nothing else is asked for."""
    dtype = kv_dtype(policy)
    return DType.I16 if dtype is DType.F16 and isa in BYTE_PRODUCT_ISAS else dtype


class CpuBackend:
    """Runs graphs on ``device``. Packed weights are kept in ``cache`` if one is given, and then shared by graphs.

    ``on_phase`` is told of the parts of compiling: "graph", "weights", "program".
    """

    name = "cpu"

    def __init__(
        self,
        device: CpuDevice | None = None,
        *,
        cache: PackedCache | None = None,
        progress: Progress | None = None,
        on_phase: PhaseObserver | None = None,
    ) -> None:
        self.device = device or CpuDevice()
        self._on_phase = on_phase
        self._packer = Packer(self.device, cache=cache, progress=progress or NoProgress())

    def compile(
        self,
        graph: Graph,
        weights: WeightStore,
        limits: Limits,
        *,
        policy: Policy,
        taps: Sequence[str] = (),
        kv_dtype: DType | None = None,
    ) -> CpuExecutable:
        """Lower ``graph``, pack its weights, encode its program."""
        with phase("graph", self._on_phase):
            types = {w.name: weights.get(w.name).type for w in graph.weights()}
            plan = lower(graph, types, policy, limits=limits, taps=taps, kv_dtype=kv_dtype)
        with phase("weights", self._on_phase):
            packed = self._packer.pack(plan.graph, weights)
        with phase("program", self._on_phase):
            return CpuExecutable(plan, packed, self.device)

    def kv_dtype(self, policy: Policy, wanted: DType | None = None) -> DType:
        """``wanted``, or that of ``policy``, as codes of 16 bits where kernels multiply bytes."""
        return default_kv_dtype(policy, self.device.isa) if wanted is None else wanted

    def encoder_kv_dtype(self, policy: Policy) -> DType:
        """That of ``policy``; where tiles multiply it, bf16 beside products of 8 bits."""
        has_tiles = self.device.isa in BF16_TILE_ISAS
        return DType.BF16 if policy is Policy.FAST and has_tiles else kv_dtype(policy)

    def allocate_kv(self, specs: Sequence[KVSpec], num_blocks: Sequence[int]) -> CpuKVCache:
        """KV memory for layers ``0 ... len(specs) - 1``: ``num_blocks`` blocks of each KV group."""
        return CpuKVCache(specs, num_blocks, self.device.memory)
