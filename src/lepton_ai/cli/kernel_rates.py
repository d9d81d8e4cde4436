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
from lepton_ai.backends.cpu.executable import CpuExecutable
from lepton_ai.backends.cpu.kv_cache import CpuKVCache
from lepton_ai.config import Limits, Policy
from lepton_ai.graph import ops
from lepton_ai.graph.graph import Graph
from lepton_ai.graph.tensor import DType, Weight, symbol
from lepton_ai.graph.trace import Trace
from lepton_ai.weights.formats import WeightType
from lepton_ai.weights.store import StoredTensor

NUM_ROWS = (1, 64)
"""Rows in flight: one request that decodes, and a piece of a prompt."""

LIMIT_ROWS = (1, 2, 4, 8, 16, 64, 512)
"""Those that limits are measured for."""

_NUM_INPUTS = 1024
# Few rows are soon done: with few outputs, waking the threads would be measured.
_NUM_OUTPUTS, _NUM_OUTPUTS_OF_FEW, _FEW_ROWS = 1024, 4096, 16
_CACHE_BYTES_OF_THREAD, _MEMORY_BYTES = 1 << 20, 256 << 20
_MIN_SECONDS, _MIN_SECONDS_OF_LIMIT, _MIN_PASSES = 0.05, 0.15, 2
# A small buffer is read in less time than the system gives to somebody else: one of many is not disturbed.
_CACHE_TRIALS, _MEMORY_TRIALS = 20, 5
# As an f16 scale, as an f32 value and as codes, a byte that gives ordinary numbers: no NaN, no subnormal.
_FILLER = 0x2E


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """Bytes a second that all threads together read: from memory, and from a buffer that caches hold."""

    memory_bytes_per_s: float
    cache_bytes_per_s: float


@dataclass(frozen=True, slots=True)
class ThreadBandwidth:
    """That of so many threads."""

    num_threads: int
    bandwidth: Bandwidth


@dataclass(frozen=True, slots=True)
class KernelRate:
    """Multiply-adds a second of one linear layer at ``num_rows``: the quantising of its input included, or, as a limit,
    its kernel alone."""

    weight_type: str
    isa: str
    num_rows: int
    macs_per_s: float


@dataclass(frozen=True, slots=True)
class MachineLimits:
    """What no step can exceed: reads by number of threads, products by weight type and rows."""

    reads: Sequence[ThreadBandwidth]
    products: Sequence[KernelRate]


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


def measure_bandwidth(device: CpuDevice, memory_bytes: int = _MEMORY_BYTES) -> Bandwidth:
    """Read a buffer that no cache holds, or one of ``memory_bytes``, and one that fits each core's own cache."""
    small = _CACHE_BYTES_OF_THREAD * device.num_threads
    cached = max(device.measure_read_bandwidth(small) for _ in range(_CACHE_TRIALS))
    return Bandwidth(max(device.measure_read_bandwidth(memory_bytes) for _ in range(_MEMORY_TRIALS)), cached)


def measure_limits(isa: str, num_threads: int) -> MachineLimits:
    """The limits of up to ``num_threads``; those of products are of all, on one instruction set."""
    devices = [CpuDevice(num_threads=count, isa=isa) for count in range(1, num_threads + 1)]
    reads = [ThreadBandwidth(device.num_threads, measure_bandwidth(device)) for device in devices]
    backend = CpuBackend(devices[-1])
    products = [
        KernelRate(weight_type.value, isa, num_rows, measure_product(backend, weight_type, num_rows))
        for weight_type in WeightType
        for num_rows in LIMIT_ROWS
    ]
    return MachineLimits(reads, products)


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
    weight = Weight("weight", shape or _shape(num_rows))
    executable, inputs, cache = _compile(backend, _linear(weight), weight_type, num_rows, policy)

    def seconds() -> float:
        start = clock()
        executable.run(inputs, cache)
        return clock() - start

    return num_rows * prod(weight.shape) / _best(seconds)


def measure_product(backend: CpuBackend, weight_type: WeightType, num_rows: int, policy: Policy = Policy.AUTO) -> float:
    """Multiply-adds a second of the kernel alone, by the program's clock, its weights in caches."""
    weight = Weight("weight", _shape(num_rows))
    graph = _linear(weight, is_enclosed=True)
    executable, inputs, cache = _compile(backend, graph, weight_type, num_rows, policy)
    executable.set_timing(enabled=True)
    index = next(i for i, op in enumerate(executable.ops) if op.op == "linear")

    def seconds() -> float:
        executable.run(inputs, cache)
        (_, working), (waiting, _) = executable.take_op_seconds()[index : index + 2]
        return working + waiting  # until the last thread was through

    return num_rows * prod(weight.shape) / _best(seconds, _MIN_SECONDS_OF_LIMIT)


def _shape(num_rows: int) -> tuple[int, int]:
    return (_NUM_OUTPUTS_OF_FEW if num_rows < _FEW_ROWS else _NUM_OUTPUTS), _NUM_INPUTS


def _compile(
    backend: CpuBackend, graph: Graph, weight_type: WeightType, num_rows: int, policy: Policy
) -> tuple[CpuExecutable, StepInputs, CpuKVCache]:
    (weight,) = graph.weights()
    limits = Limits(max_tokens=num_rows, max_rows=1, max_seqs=1, max_model_len=num_rows)
    executable = backend.compile(graph, _OneTensor(weight, weight_type), limits, policy=policy)
    return executable, _inputs(num_rows, weight.shape[1]), backend.allocate_kv((), ())


def _linear(weight: Weight, *, is_enclosed: bool = False) -> Graph:
    """One product; ``is_enclosed`` by ops, so that threads meet before and after it."""
    trace = Trace()
    x = trace.input("x", (symbol("T"), weight.shape[1]), DType.F32)
    y = ops.linear(ops.add(x, x, name="before") if is_enclosed else x, weight, name="y")
    return trace.finish([ops.add(y, y, name="after") if is_enclosed else y])


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


def _best(measure: Callable[[], float], min_seconds: float = _MIN_SECONDS) -> float:
    """The least of a few measurements: the others were disturbed."""
    best, end, num_passes = float("inf"), time.perf_counter() + min_seconds, 0
    while num_passes < _MIN_PASSES or time.perf_counter() < end:
        best = min(best, measure())
        num_passes += 1
    return best
