"""The reference backend: NumPy, node by node. It is the oracle of all others, quantised semantics included."""

from __future__ import annotations

from collections.abc import Sequence

from lepton_ai.backends.reference.executable import ReferenceExecutable
from lepton_ai.backends.reference.kv import ReferenceKVCache
from lepton_ai.backends.reference.weights import HeldWeight, hold
from lepton_ai.config import Limits, Policy
from lepton_ai.errors import WeightMismatch
from lepton_ai.graph.attrs import KVSpec
from lepton_ai.graph.graph import Graph
from lepton_ai.graph.passes import lower
from lepton_ai.graph.passes.precision import kv_dtype, narrowed_matrices
from lepton_ai.graph.tensor import DType
from lepton_ai.weights.store import WeightStore


class ReferenceBackend:
    """Compiles to NumPy."""

    name = "reference"

    def compile(
        self,
        graph: Graph,
        weights: WeightStore,
        limits: Limits,
        *,
        policy: Policy,
        taps: Sequence[str] = (),
        kv_dtype: DType | None = None,
    ) -> ReferenceExecutable:
        """Run the passes and unpack the weights.

        Raises WeightMismatch for a weight that is absent or has another shape, InvalidRequest for an unknown tap.
        """
        types = {}
        for weight in graph.weights():
            stored = weights.get(weight.name)
            if stored.shape != weight.shape:
                raise WeightMismatch(f"{weight.name} has shape {stored.shape}, expected {weight.shape}", param="model")
            types[weight.name] = stored.type
        plan = lower(graph, types, policy, limits=limits, taps=taps, kv_dtype=kv_dtype)
        narrowed = narrowed_matrices(plan.graph)
        held: dict[str, HeldWeight] = {}
        for name in types:
            held[name] = hold(weights.get(name), narrowed.get(name))
            weights.release(name)
        return ReferenceExecutable(plan, held)

    def encoder_kv_dtype(self, policy: Policy) -> DType:
        """That of ``policy``."""
        return kv_dtype(policy)

    def kv_dtype(self, policy: Policy, wanted: DType | None = None) -> DType:
        """``wanted``, or that of ``policy``."""
        return kv_dtype(policy, wanted)

    def allocate_kv(self, specs: Sequence[KVSpec], num_blocks: Sequence[int]) -> ReferenceKVCache:
        """A zeroed cache for layers ``0 ... len(specs)-1``: ``num_blocks`` blocks of each KV group."""
        return ReferenceKVCache(specs, num_blocks)
