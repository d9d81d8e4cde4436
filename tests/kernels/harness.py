"""Small graphs on the CPU backend and on the reference, with the same weights and the same steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from tests.models.tiny import MemoryStore

from lepton_ai.backends.base import Backend, Executable, KVCache, KVGroupInputs, SamplingInputs, StepInputs, StepOutputs
from lepton_ai.backends.cpu.backend import CpuBackend
from lepton_ai.backends.cpu.device import CpuDevice
from lepton_ai.backends.reference.backend import ReferenceBackend
from lepton_ai.backends.reference.weights import DenseWeight, HeldWeight, hold
from lepton_ai.config import Limits, Policy
from lepton_ai.graph.attrs import kv_groups
from lepton_ai.graph.graph import Graph
from lepton_ai.graph.passes.precision import kv_dtype, kv_specs
from lepton_ai.graph.tensor import ROTATION, DType, symbol
from lepton_ai.graph.trace import Trace, Value
from lepton_ai.weights.formats import WeightType
from lepton_ai.weights.store import StoredTensor

Floats = npt.NDArray[np.float32]
Outputs = dict[str, Floats]

LIMITS = Limits(max_tokens=200, max_rows=200, max_seqs=8, max_model_len=2048)
EPS = float(np.finfo(np.float32).eps)
QUANTISED = tuple(t for t in WeightType if t.bits <= 8)
WIDE = tuple(t for t in WeightType if t.bits > 8)


@dataclass(frozen=True)
class Case:
    """A graph with what it is compiled with."""

    graph: Graph
    tensors: tuple[StoredTensor, ...] = ()
    policy: Policy = Policy.EXACT
    limits: Limits = LIMITS
    taps: tuple[str, ...] = ()
    kv_dtype: DType | None = None

    def store(self) -> MemoryStore:
        """The weights by name."""
        return MemoryStore({t.name: t for t in self.tensors})

    def allocate_kv(self, backend: Backend, num_blocks: int) -> KVCache:
        """A cache for the graph's layers, in the case's element type, or the policy's: ``num_blocks`` of each group."""
        dtype = kv_dtype(self.policy, self.kv_dtype)
        specs = [replace(spec, dtype=dtype) for spec in kv_specs(self.graph)]
        return backend.allocate_kv(specs, [num_blocks] * len(kv_groups(specs)))

    def compile_on(self, backend: Backend) -> Executable:
        """The graph, compiled."""
        return backend.compile(
            self.graph, self.store(), self.limits, policy=self.policy, taps=self.taps, kv_dtype=self.kv_dtype
        )

    def on_cpu(self, device: CpuDevice, steps: Iterable[StepInputs], *, num_blocks: int = 0) -> list[Outputs]:
        """The outputs of each step."""
        return self._run(CpuBackend(device), steps, num_blocks)

    def on_reference(self, steps: Iterable[StepInputs], *, num_blocks: int = 0) -> list[Outputs]:
        """The same on the oracle."""
        return self._run(ReferenceBackend(), steps, num_blocks)

    def _run(self, backend: Backend, steps: Iterable[StepInputs], num_blocks: int) -> list[Outputs]:
        executable = self.compile_on(backend)
        cache = self.allocate_kv(backend, num_blocks)
        return [copied(executable.run(step, cache).result()) for step in steps]


def copied(outputs: StepOutputs) -> Outputs:
    """The tensors of a step, out of the arena."""
    return {name: values.copy() for name, values in outputs.tensors.items()}


def rows_of(trace: Trace, name: str, num_columns: int, num_rows: str = "T") -> Value:
    """A graph input of f32 rows, one for each token (or for each wanted row, symbol ``R``)."""
    return trace.input(name, (symbol(num_rows), num_columns), DType.F32)


def plain_step(
    tensors: Mapping[str, Floats] | None = None,
    *,
    token_ids: Sequence[int] | None = None,
    positions: Sequence[int] | None = None,
    logit_rows: Sequence[int] | None = None,
    targets: Sequence[int] | None = None,
    sampling: SamplingInputs | None = None,
) -> StepInputs:
    """One sequence without a cache; its length is that of ``token_ids``, or of the first of ``tensors``."""
    tensors = tensors or {}
    count = len(token_ids) if token_ids is not None else len(next(iter(tensors.values())))
    return StepInputs(
        token_ids=ints(token_ids or [0] * count),
        positions=ints(positions if positions is not None else range(count)),
        query_offsets=ints([0, count]),
        kv_lengths=ints([count]),
        kv_groups=[],
        logit_rows=ints(logit_rows if logit_rows is not None else []),
        targets=None if targets is None else ints(targets),
        sampling=sampling,
        tensors=tensors,
    )


def cached_step(
    tensors: Mapping[str, Floats], chunks: Sequence[tuple[int, int, Sequence[int]]], *, num_groups: int = 1
) -> StepInputs:
    """Several sequences with a cache. A chunk is (tokens before it, its tokens, its block table)."""
    counts = [count for _, count, _ in chunks]
    table = np.zeros((len(chunks), max(len(blocks) for *_, blocks in chunks)), np.int32)
    for row, (_, _, blocks) in enumerate(chunks):
        table[row, : len(blocks)] = blocks
    return StepInputs(
        token_ids=ints([0] * sum(counts)),
        positions=ints([start + i for start, count, _ in chunks for i in range(count)]),
        query_offsets=ints([0, *np.cumsum(counts).tolist()]),
        kv_lengths=ints([start + count for start, count, _ in chunks]),
        kv_groups=[KVGroupInputs(table)] * num_groups,
        logit_rows=ints([]),
        tensors=tensors,
    )


def ints(values: Iterable[int]) -> npt.NDArray[np.int32]:
    """An i32 array."""
    return np.array(list(values), np.int32)


def normal(shape: tuple[int, ...], seed: int) -> Floats:
    """Standard normal f32 values."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def identity(size: int) -> StoredTensor:
    """A Q8_0 identity: scale 1, codes 0 and 1."""
    blocks = np.zeros((size, size // 32, 34), np.uint8)
    blocks[:, :, :2] = np.array([1], "<f2").view(np.uint8)
    for i in range(size):
        blocks[i, i // 32, 2 + i % 32] = 1
    return StoredTensor("identity", (size, size), WeightType.Q8_0, blocks.reshape(-1))


def magnitudes(weight: HeldWeight) -> npt.NDArray[np.float64]:
    """``|scale * code| + |minimum|``: what the rounding errors of a product with the weight are measured against."""
    if isinstance(weight, DenseWeight):
        return np.abs(weight.array.astype(np.float64))
    codes = np.abs(weight.codes.astype(np.float64))
    minima = np.zeros_like(weight.scales) if weight.minima is None else np.abs(weight.minima)
    sizes: npt.NDArray[np.float64] = codes * np.repeat(np.abs(weight.scales), weight.group, axis=1)
    sizes += np.repeat(minima, weight.group, axis=1)
    return sizes[:, : weight.num_columns]


def held(tensor: StoredTensor, policy: Policy, *, is_head: bool = False) -> HeldWeight:
    """A matrix as a product under ``policy`` reads it."""
    if policy is not Policy.FAST or tensor.type not in WIDE:
        return hold(tensor)
    return hold(tensor, DType.Q8 if is_head or tensor.shape[1] % ROTATION else DType.R8)


def tolerated_ulps(device: CpuDevice, num_terms: int) -> float:
    """What a product of quantised rows may be off. Only generic kernels, which fuse no additions, may be off at all.

    Of two terms, a value of the second near the middle of two codes may fall to either.
    """
    if device.isa != "generic":
        return 0.0
    return 8.0 if num_terms == 1 else 64.0


def assert_within(got: Floats, expected: Floats, sizes: npt.NDArray[np.floating], ulps: float) -> None:
    """Errors are at most ``ulps`` units in the last place of ``sizes``, the sums of the terms' magnitudes."""
    assert got.shape == expected.shape
    errors = np.abs(got.astype(np.float64) - expected)
    worst = float((errors / np.maximum(sizes * EPS, 1e-37)).max(initial=0.0))
    assert worst <= ulps, f"{worst:.2f} ulps of the sum of magnitudes, at most {ulps} expected"


def assert_same_codes(got: Floats, expected: Floats, largest_share: float = 0.01) -> None:
    """Rows that went through 8 bits after a function: a value near the middle of two codes may fall to either, which
    is the lot of less than ``largest_share``."""
    errors, sizes = (np.abs(a).reshape(len(got), -1, 32) for a in (got - expected, expected))
    steps = sizes.max(axis=2, keepdims=True) / 127
    assert (errors <= 1.01 * steps).all()
    assert (errors > 0.5 * steps).mean() < largest_share
