"""How fast this machine's kernels are: memory bandwidth, and linear layers by weight type and instruction set."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from lepton_ai.backends.base import Float32Array, StepInputs
from lepton_ai.backends.cpu.backend import CpuBackend
from lepton_ai.backends.cpu.device import CpuDevice
from lepton_ai.config import Limits, Policy
from lepton_ai.graph import ops
from lepton_ai.graph.graph import Graph
from lepton_ai.graph.tensor import DType, Weight, symbol
from lepton_ai.graph.trace import Trace
from lepton_ai.weights.formats import WeightType
from lepton_ai.weights.store import StoredTensor

NUM_ROWS = (1, 64)
"""Rows in flight: one request that decodes, and a piece of a prompt."""

_NUM_INPUTS = 1024
# One row is soon done: with few outputs, waking the threads would be measured.
_NUM_OUTPUTS = {1: 4096, 64: 1024}
_CACHE_BYTES, _MEMORY_BYTES = 4 << 20, 256 << 20
_MIN_SECONDS, _MIN_PASSES = 0.05, 2
# A small buffer is read in less time than the system gives to somebody else: one of many is not disturbed.
_CACHE_TRIALS = 20
# As an f16 scale, as an f32 value and as codes, a byte that gives ordinary numbers: no NaN, no subnormal.
_FILLER = 0x2E


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """Bytes a second that all threads together read: from memory, and from a buffer that caches hold."""

    memory_bytes_per_s: float
    cache_bytes_per_s: float


@dataclass(frozen=True, slots=True)
class KernelRate:
    """Multiply-adds a second of one linear layer at ``num_rows``, the quantising of its input included."""

    weight_type: str
    isa: str
    num_rows: int
    macs_per_s: float


@dataclass(frozen=True, slots=True)
class _OneTensor:
    """A weight store that holds ``weight``, as ``type``."""

    weight: Weight
    type: WeightType

    @property
    def digest(self) -> str:
        return ""

    def names(self) -> Sequence[str]:
        return (self.weight.name,)

    def get(self, name: str) -> StoredTensor:
        data = np.full(self.type.num_bytes(self.weight.shape), _FILLER, np.uint8)
        return StoredTensor(name, self.weight.shape, self.type, data)

    def release(self, name: str) -> None:
        pass


def measure_bandwidth(device: CpuDevice) -> Bandwidth:
    """Read a buffer that no cache holds, and a small one."""
    cached = max(device.measure_read_bandwidth(_CACHE_BYTES) for _ in range(_CACHE_TRIALS))
    return Bandwidth(device.measure_read_bandwidth(_MEMORY_BYTES), cached)


def measure_kernels(isas: Sequence[str], num_threads: int) -> list[KernelRate]:
    """The rate of each weight type on each instruction set, with the activations of policy ``auto``."""
    rates: list[KernelRate] = []
    for isa in isas:
        backend = CpuBackend(CpuDevice(num_threads=num_threads, isa=isa))
        for weight_type in WeightType:
            for num_rows in NUM_ROWS:
                rate = measure_linear(backend, weight_type, num_rows)
                rates.append(KernelRate(weight_type.value, isa, num_rows, rate))
    return rates


def measure_linear(
    backend: CpuBackend,
    weight_type: WeightType,
    num_rows: int,
    *,
    shape: tuple[int, int] | None = None,
    policy: Policy = Policy.AUTO,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Multiply-adds a second, by ``clock`` (seconds), of a matrix of ``shape`` (outputs, inputs)."""
    weight = Weight("weight", shape or (_NUM_OUTPUTS[num_rows], _NUM_INPUTS))
    limits = Limits(max_tokens=num_rows, max_rows=1, max_seqs=1, max_model_len=num_rows)
    executable = backend.compile(_linear(weight), _OneTensor(weight, weight_type), limits, policy=policy)
    inputs, cache = _inputs(num_rows, weight.shape[1]), backend.allocate_kv((), ())
    return num_rows * prod(weight.shape) / _best_seconds(lambda: executable.run(inputs, cache), clock)


def _linear(weight: Weight) -> Graph:
    trace = Trace()
    x = trace.input("x", (symbol("T"), weight.shape[1]), DType.F32)
    return trace.finish([ops.linear(x, weight, name="y")])


def _inputs(num_rows: int, num_inputs: int) -> StepInputs:
    x: Float32Array = np.linspace(-1.0, 1.0, num_rows * num_inputs, dtype=np.float32)
    zeros = np.zeros(num_rows, np.int32)
    return StepInputs(
        token_ids=zeros,
        positions=zeros,
        query_offsets=np.array([0, num_rows], np.int32),
        kv_lengths=np.array([num_rows], np.int32),
        kv_groups=(),
        logit_rows=zeros[:1],
        tensors={"x": x.reshape(num_rows, num_inputs)},
    )


def _best_seconds(run: Callable[[], object], clock: Callable[[], float]) -> float:
    """The shortest of a few passes: the others were disturbed."""
    best, end, num_passes = float("inf"), time.perf_counter() + _MIN_SECONDS, 0
    while num_passes < _MIN_PASSES or time.perf_counter() < end:
        start = clock()
        run()
        best = min(best, clock() - start)
        num_passes += 1
    return best
