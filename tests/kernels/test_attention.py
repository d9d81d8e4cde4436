"""Attention over a paged cache against the reference, on blocks that hold NaN wherever nothing was written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
from tests.kernels.harness import (
    Case,
    Floats,
    Outputs,
    assert_same_codes,
    cached_step,
    copied,
    identity,
    normal,
    rows_of,
)
from tests.models.tiny import stored

from lepton_ai.backends.base import StepInputs
from lepton_ai.backends.cpu.backend import CpuBackend
from lepton_ai.backends.cpu.device import CpuDevice
from lepton_ai.backends.cpu.kv_cache import CpuKVCache
from lepton_ai.backends.reference.backend import ReferenceBackend
from lepton_ai.config import Limits, Policy
from lepton_ai.graph import ops
from lepton_ai.graph.attrs import DistanceBuckets, KVSpec
from lepton_ai.graph.tensor import DType, Weight, symbol
from lepton_ai.graph.trace import Trace, Value

Chunk = tuple[int, int, Sequence[int]]
LONG = Limits(max_tokens=1100, max_rows=1, max_seqs=4, max_model_len=1200)
TOLERANCE = 3e-6
# Queries and weights of 16-bit codes are codes too, those of bf16 may be bf16.
TOLERANCES = {DType.F32: TOLERANCE, DType.F16: TOLERANCE, DType.BF16: 2e-2, DType.I16: 4e-4, DType.I8: 4e-4}
BUCKETS = DistanceBuckets(16, 40)


@dataclass(frozen=True)
class Shape:
    """One attention: ``heads`` query heads for each of ``kv_heads``."""

    kv_heads: int = 1
    heads: int = 1
    head_dim: int = 16
    window: int | None = None
    is_causal: bool = True
    has_bias: bool = False

    @property
    def inputs(self) -> dict[str, int]:
        """Columns of q, k and v."""
        kv_size = self.kv_heads * self.head_dim
        return {"q": self.heads * kv_size, "k": kv_size, "v": kv_size}

    def tensors(self, num_tokens: int, seed: int) -> dict[str, Floats]:
        """Random q, k and v."""
        return {name: normal((num_tokens, size), seed + i) for i, (name, size) in enumerate(self.inputs.items())}

    def case(
        self, kv: DType, *, rope: bool | None = None, quantised: bool = False, limits: Limits | None = None
    ) -> Case:
        """The graph; ``rope`` interleaves or not, None does not rotate; ``quantised`` sends the output through q8."""
        trace = Trace()
        q, k, v = (rows_of(trace, name, size) for name, size in self.inputs.items())
        if rope is not None:
            positions = trace.input("positions", (symbol("T"),), DType.I32)
            frequencies = [float(f) for f in 100.0 ** -np.linspace(0, 1, self.head_dim // 2)]
            table = ops.rope_table(positions, frequencies, name="table")
            q, k = (
                ops.rope(x, table, head_dim=self.head_dim, interleaved=rope, name=f"{x.tensor.name}_rope")
                for x in (q, k)
            )
        y = self.attend(q, k, v)
        size = self.inputs["q"]
        if quantised:
            y = ops.linear(y, Weight("identity", (size, size)), name="out")
        tensors = [identity(size)] if quantised else []
        if self.has_bias:
            tensors.append(stored("bias", normal((BUCKETS.count, self.kv_heads * self.heads), 9)))
        policy = Policy.AUTO if quantised else Policy.EXACT
        case = Case(trace.finish([y]), tuple(tensors), policy, kv_dtype=kv)
        return case if limits is None else replace(case, limits=limits)

    def attend(self, q: Value, k: Value, v: Value, *, layer: int = 0, name: str = "y") -> Value:
        """The op alone."""
        spec = KVSpec(self.kv_heads, self.head_dim, window=self.window)
        num_heads, scale = self.kv_heads * self.heads, self.head_dim**-0.5
        return ops.attention(
            q,
            k,
            v,
            num_heads=num_heads,
            kv=spec,
            layer=layer,
            scale=scale,
            name=name,
            is_causal=self.is_causal,
            bias=Weight("bias", (BUCKETS.count, num_heads)) if self.has_bias else None,
            buckets=BUCKETS if self.has_bias else None,
        )


KV_DTYPES = pytest.mark.parametrize(
    "kv", [DType.F32, DType.F16, DType.BF16, DType.I16, DType.I8], ids=lambda dtype: dtype.value
)


def poisoned(case: Case, backend: CpuBackend, num_blocks: int) -> CpuKVCache:
    """A cache of NaN; of codes, the scales are NaN."""
    cache = case.allocate_kv(backend, num_blocks)
    assert isinstance(cache, CpuKVCache)
    for region in cache._regions:
        region.fill(0xFF)
    return cache


def poison(cache: CpuKVCache, block_ids: Sequence[int]) -> None:
    """Blocks of its only group become NaN."""
    for block_id in block_ids:
        cache.block(0, block_id)[:] = 0xFF


def on_poisoned_cpu(case: Case, device: CpuDevice, steps: Iterable[StepInputs], num_blocks: int) -> list[Outputs]:
    """The steps on a cache of NaN: garbage that a block still holds must not reach any output."""
    backend = CpuBackend(device)
    executable, blocks = case.compile_on(backend), poisoned(case, backend, num_blocks)
    return [copied(executable.run(step, blocks).result()) for step in steps]


# Three requests with scattered blocks: prompts, then pieces of several sizes, then one token each.
A, B, C = [7, 2, 11, 3, 19, 5, 13], [0, 17], [4, 1, 16, 9, 8]
RAGGED: tuple[tuple[Chunk, ...], ...] = (
    ((0, 70, A), (0, 5, B), (0, 33, C)),
    ((70, 1, A), (5, 17, B), (33, 31, C)),
    ((64, 1, C), (71, 1, A), (22, 1, B)),
)


def steps_of(shape: Shape, chunks: Sequence[Sequence[Chunk]]) -> list[StepInputs]:
    """One step for each list of chunks, with random rows."""
    return [
        cached_step(shape.tensors(sum(count for _, count, _ in parts), 10 * seed), parts)
        for seed, parts in enumerate(chunks)
    ]


@cache
def expected(shape: Shape, kv: DType, rope: bool | None = None, quantised: bool = False) -> list[Outputs]:
    """The reference's outputs of the ragged steps."""
    return shape.case(kv, rope=rope, quantised=quantised).on_reference(steps_of(shape, RAGGED), num_blocks=20)


SHAPES = [
    Shape(1, 1, 16),
    Shape(3, 1, 48),
    Shape(2, 3, 64),
    Shape(1, 7, 80, window=20),
    Shape(2, 1, 128, window=64),
    Shape(1, 2, 96),
    Shape(1, 3, 256, window=33),
    Shape(2, 7, 32, window=1),
    Shape(1, 32, 16),
    Shape(2, 1, 32, is_causal=False),
    Shape(2, 7, 64, is_causal=False),
    Shape(3, 2, 32, is_causal=False, has_bias=True),
    Shape(2, 1, 16, window=40, has_bias=True),
]


@KV_DTYPES
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_ragged_requests_with_scattered_blocks(device: CpuDevice, shape: Shape, kv: DType) -> None:
    got = on_poisoned_cpu(shape.case(kv), device, steps_of(shape, RAGGED), 20)
    for outputs, want in zip(got, expected(shape, kv), strict=True):
        np.testing.assert_allclose(outputs["y"], want["y"], rtol=0, atol=TOLERANCES[kv])


@KV_DTYPES
@pytest.mark.parametrize("rope", [True, False], ids=["interleaved", "halves"])
def test_rotation_inside_the_op(device: CpuDevice, rope: bool, kv: DType) -> None:
    shape = Shape(2, 3, 32)
    got = on_poisoned_cpu(shape.case(kv, rope=rope), device, steps_of(shape, RAGGED), 20)
    # A rotated key near the middle of two f16 numbers, or of two codes, may be stored as either.
    tolerance = {DType.F32: TOLERANCE, DType.F16: 2e-3, DType.BF16: 3e-2, DType.I16: 6e-4, DType.I8: 2e-2}[kv]
    for outputs, want in zip(got, expected(shape, kv, rope), strict=True):
        np.testing.assert_allclose(outputs["y"], want["y"], rtol=0, atol=tolerance)


@KV_DTYPES
@pytest.mark.parametrize("shape", [Shape(2, 3, 32), Shape(1, 2, 64), Shape(2, 1, 48)], ids=str)
def test_output_in_8_bits(device: CpuDevice, shape: Shape, kv: DType) -> None:
    got = on_poisoned_cpu(shape.case(kv, quantised=True), device, steps_of(shape, RAGGED), 20)
    for outputs, want in zip(got, expected(shape, kv, quantised=True), strict=True):
        if kv is DType.BF16:  # whose errors are larger than a step
            step = np.abs(want["out"]).max() / 127
            np.testing.assert_allclose(outputs["out"], want["out"], rtol=0, atol=TOLERANCES[kv] + step)
            continue
        assert_same_codes(outputs["out"], want["out"], largest_share=max(0.01, 100 * TOLERANCES[kv]))


def test_layers_with_other_specs_have_their_own_tables(device: CpuDevice) -> None:
    trace, full, windowed = Trace(), Shape(1, 2, 16), Shape(2, 1, 16, window=8)
    sizes = {f"{name}{i}": size for i, s in enumerate((full, windowed)) for name, size in s.inputs.items()}
    inputs = [rows_of(trace, name, size) for name, size in sizes.items()]
    outputs = [
        full.attend(*inputs[:3], name="y0"),
        windowed.attend(*inputs[3:], layer=1, name="y1"),
    ]
    case = Case(trace.finish(outputs))
    tensors = {name: normal((40, size), seed) for seed, (name, size) in enumerate(sizes.items())}
    first, second = (cached_step(tensors, [(0, 40, blocks)]) for blocks in ([3, 0, 1], [2, 1, 3]))
    step = replace(first, kv_groups=[first.kv_groups[0], second.kv_groups[0]])
    (got,), (want,) = on_poisoned_cpu(case, device, [step], 4), case.on_reference([step], num_blocks=4)
    for name, values in want.items():
        np.testing.assert_allclose(got[name], values, rtol=0, atol=TOLERANCE)


def whole_and_pieces(shape: Shape, length: int, tail: int) -> tuple[list[StepInputs], list[StepInputs]]:
    """One request of ``length`` tokens in one step, and with its last ``tail`` tokens in a step of their own."""
    tensors, blocks = (
        shape.tensors(length, length),
        np.random.default_rng(length).permutation(75)[: -(-length // 16)].tolist(),
    )
    cut = length - tail
    pieces = [
        cached_step({n: rows[part] for n, rows in tensors.items()}, [(start, count, blocks)])
        for part, start, count in ((slice(cut), 0, cut), (slice(cut, None), cut, tail))
    ]
    return [cached_step(tensors, [(0, length, blocks)])], pieces


@KV_DTYPES
@pytest.mark.parametrize(
    ("length", "window", "is_causal"),
    [
        (64, None, True),
        (256, None, True),
        (600, None, True),
        (600, 300, True),
        (1100, None, True),
        (256, None, False),
        (600, None, False),
        (1100, None, False),
    ],
)
def test_long_contexts(device: CpuDevice, length: int, window: int | None, kv: DType, is_causal: bool) -> None:
    # Up to 8 tokens over more than 512 keys are split over threads: bits must be those of the whole prompt.
    shape = Shape(1, 3, 16, window, is_causal)
    case = shape.case(kv, limits=LONG)
    whole, _ = whole_and_pieces(shape, length, 1)
    (together,) = on_poisoned_cpu(case, device, whole, 75)
    np.testing.assert_allclose(together["y"], expected_long(shape, length, kv), rtol=0, atol=TOLERANCES[kv])
    for tail in (1, 8, 9):
        _, pieces = whole_and_pieces(shape, length, tail)
        last = on_poisoned_cpu(case, device, pieces, 75)[1]
        assert np.array_equal(last["y"], together["y"][-tail:])


@cache
def expected_long(shape: Shape, length: int, kv: DType) -> Floats:
    (outputs,) = shape.case(kv, limits=LONG).on_reference(whole_and_pieces(shape, length, 1)[0], num_blocks=75)
    return outputs["y"]


WINDOWED = [*(shape for shape in SHAPES if shape.window), Shape(1, 3, 16, window=300)]


@KV_DTYPES
@pytest.mark.parametrize("shape", WINDOWED, ids=str)
def test_blocks_out_of_the_window_may_hold_anything(device: CpuDevice, shape: Shape, kv: DType) -> None:
    # The pieces take each way through the op: few rows and many, split over threads and not.
    window = shape.window or 0
    sizes = [300, 1, 8, 9, 48, 1, 200, 1, 33, 1]
    table = np.random.default_rng(window).permutation(np.arange(1, 40)).tolist()
    tensors, case = shape.tensors(sum(sizes), 5), shape.case(kv, limits=LONG)
    backend = CpuBackend(device)
    executable = case.compile_on(backend)

    def run(*, is_given_back: bool, num_too_many: int = 0) -> Floats:
        cache = case.allocate_kv(backend, 40)
        assert isinstance(cache, CpuKVCache)
        poison(cache, [0])
        start, blocks_now, rows = 0, list(table), []
        for size in sizes:
            num_dead = max(0, start - window + 1) // 16 if is_given_back else 0
            poison(cache, table[: num_dead + num_too_many if start else 0])
            blocks_now[: num_dead // 2] = [0] * (num_dead // 2)  # an entry may be another's block as well
            part = {name: values[start : start + size] for name, values in tensors.items()}
            rows.append(copied(executable.run(cached_step(part, [(start, size, blocks_now)]), cache).result())["y"])
            start += size
        return np.concatenate(rows)

    kept = run(is_given_back=False)
    assert np.isfinite(kept).all()
    assert np.array_equal(run(is_given_back=True), kept)
    if window > 1:
        assert np.isnan(run(is_given_back=True, num_too_many=1)).any(), "a block more is one too many"


def test_scores_of_any_size(device: CpuDevice) -> None:
    shape = Shape(1, 1, 16)
    case = shape.case(DType.F32)
    tensors = shape.tensors(100, 1)
    tensors["q"][:50] *= 1e4
    tensors["q"][50:] *= 1e-20
    steps = [cached_step(tensors, [(0, 100, range(7))])]
    (got,), (want,) = on_poisoned_cpu(case, device, steps, 7), case.on_reference(steps, num_blocks=7)
    # Scores of 1e4 carry an error of 1e-3 in f32, which the softmax turns into as much of the values.
    np.testing.assert_allclose(got["y"][:50], want["y"][:50], rtol=0, atol=2e-2)
    np.testing.assert_allclose(got["y"][50:], want["y"][50:], rtol=0, atol=TOLERANCE)


@KV_DTYPES
def test_a_request_with_nan_spares_the_others(device: CpuDevice, kv: DType) -> None:
    shape = Shape(2, 2, 16)
    case, step = shape.case(kv), steps_of(shape, RAGGED)[0]
    broken = {name: rows.copy() for name, rows in step.tensors.items()}
    broken["v"][71], broken["k"][72, 3] = np.nan, np.inf
    (clean,), (got,) = (on_poisoned_cpu(case, device, [s], 20) for s in (step, replace(step, tensors=broken)))
    is_other = np.isin(np.arange(108), range(70, 75), invert=True)
    assert np.array_equal(got["y"][is_other], clean["y"][is_other])
    assert np.isnan(got["y"][71:75]).all(axis=1).any()


@KV_DTYPES
@pytest.mark.parametrize("length", [1, 5, 33, 70])
def test_whole_sequences_have_the_bits_they_have_alone(device: CpuDevice, length: int, kv: DType) -> None:
    shape = Shape(2, 3, 32, is_causal=False, has_bias=True)
    tensors = shape.tensors(length + 60, 3)
    mine = slice(20, 20 + length)
    together = cached_step(tensors, [(0, 20, [6, 9]), (0, length, A[:5]), (0, 40, C)])
    alone = cached_step({name: rows[mine] for name, rows in tensors.items()}, [(0, length, B + C)])
    first, second = on_poisoned_cpu(shape.case(kv), device, [together, alone], 20)
    assert np.array_equal(first["y"][mine], second["y"])


def test_without_a_direction_the_order_of_keys_is_no_matter(single: CpuDevice) -> None:
    shape = Shape(1, 2, 16, is_causal=False)
    tensors, order = shape.tensors(50, 4), np.random.default_rng(1).permutation(50)
    shuffled = {name: rows[order] for name, rows in tensors.items()}
    steps = [cached_step(t, [(0, 50, A[:4])]) for t in (tensors, shuffled)]
    first, second = on_poisoned_cpu(shape.case(DType.F32), single, steps, 20)
    np.testing.assert_allclose(second["y"], first["y"][order], rtol=0, atol=TOLERANCE)


def test_a_bias_may_be_replaced(single: CpuDevice) -> None:
    shape = Shape(1, 2, 16, is_causal=False, has_bias=True)
    case, (step, *_) = shape.case(DType.F32), steps_of(shape, RAGGED)
    got = []
    for backend in (CpuBackend(single), ReferenceBackend()):
        executable, cache = case.compile_on(backend), case.allocate_kv(backend, 20)
        executable.set_weight("bias", normal((BUCKETS.count, 2), 5))
        got.append(copied(executable.run(step, cache).result())["y"])
    np.testing.assert_allclose(got[0], got[1], rtol=0, atol=TOLERANCE)
    (before, *_) = expected(shape, DType.F32)
    assert np.abs(got[0] - before["y"]).max() > 0.1


def test_distances_beyond_the_last_bucket_share_it() -> None:
    distances = [0, 1, 3, 4, 40, 1000, -1, -4, -1000]
    assert [BUCKETS.bucket(d) for d in distances] == [0, 9, 11, 12, 15, 15, 1, 4, 7]
