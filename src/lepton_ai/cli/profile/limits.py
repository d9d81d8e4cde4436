"""The least time that an op can take on this machine: what it moves and multiplies, at measured rates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lepton_ai.backends.cpu.backend import CpuBackend
from lepton_ai.backends.cpu.work import Product, Work
from lepton_ai.cli.kernel_rates import Bandwidth, measure_bandwidth, measure_product
from lepton_ai.config import Policy
from lepton_ai.weights.formats import WeightType

_ATTENTION = (WeightType.F32, 64)
"""Attention multiplies in f32, a tile of keys with some rows: its peak is that of such a product."""

Peaks = Mapping[tuple[WeightType, int], float]


@dataclass(frozen=True, slots=True)
class Bound:
    """Seconds that memory, caches and products need; they can all be busy at the same time."""

    memory_s: float
    cache_s: float
    compute_s: float

    @property
    def seconds(self) -> float:
        """The limit."""
        return max(self.memory_s, self.cache_s, self.compute_s)


@dataclass(frozen=True, slots=True)
class StepLimits:
    """Rates of the machine: reads, and products by weight type and rows. ``types`` are those of a model's weights.

    Weights, keys and values come from memory, activations from caches.
    """

    bandwidth: Bandwidth
    peaks: Peaks
    types: Mapping[str, WeightType]

    def bound(self, work: Work) -> Bound:
        """The limit of an op."""
        return Bound(
            memory_s=(work.weight_bytes + work.kv_bytes) / self.bandwidth.memory_bytes_per_s,
            cache_s=work.activation_bytes / self.bandwidth.cache_bytes_per_s,
            compute_s=sum(p.macs / self.peaks[peak_key(p, self.types)] for p in work.products if p.macs),
        )


def peak_key(product: Product, types: Mapping[str, WeightType]) -> tuple[WeightType, int]:
    """Weight type and rows whose peak bounds a product."""
    return _ATTENTION if product.weight is None else (types[product.weight], product.num_rows)


def measure_step_limits(
    backend: CpuBackend, works: Iterable[Work], types: Mapping[str, WeightType], *, weight_bytes: int, policy: Policy
) -> StepLimits:
    """Measure what ``works`` need. Memory is read as a step reads it: ``weight_bytes``, again and again."""
    keys = {peak_key(product, types) for work in works for product in work.products if product.macs}
    peaks = {
        (kind, num_rows): measure_product(
            backend, kind, num_rows, Policy.EXACT if (kind, num_rows) == _ATTENTION else policy
        )
        for kind, num_rows in sorted(keys, key=lambda key: (key[0].value, key[1]))
    }
    return StepLimits(measure_bandwidth(backend.device, weight_bytes), peaks, types)
