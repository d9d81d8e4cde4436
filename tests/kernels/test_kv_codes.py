"""The cache in 8 bits: its codes and scales are those of the reference, bit for bit, and serve heads that stand out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from tests.kernels.harness import Case, Floats, cached_step, ints, normal
from tests.kernels.test_attention import A, B, C, Shape, on_poisoned_cpu, poisoned

from lepton_ai.backends.base import BLOCK_SIZE, StepInputs
from lepton_ai.backends.cpu.backend import CpuBackend
from lepton_ai.backends.cpu.device import CpuDevice
from lepton_ai.backends.reference.backend import ReferenceBackend
from lepton_ai.backends.reference.kv import CodedHeads, CodedKeys, ReferenceKVCache, slots_of
from lepton_ai.backends.reference.weights import rotate
from lepton_ai.graph.tensor import DType


@dataclass(frozen=True)
class Coded:
    """What an int8 cache holds; the axis of slots is whole blocks."""

    keys: npt.NDArray[np.int8]
    key_scales: Floats
    values: npt.NDArray[np.int8]
    value_scales: Floats
    bases: npt.NDArray[np.int8]
    base_scales: Floats


UNTOUCHED = {"keys": 0x7F, "values": 0x7F}
"""What bytes of 0xFF stand for in what is kept plus 128."""
NUM_BLOCKS = 20
HEAD_DIMS = (16, 32, 48, 64, 80, 96, 128, 240, 256)
# Whole blocks and parts of them; then single tokens.
CHUNKS = [[(0, 70, A), (0, 5, B), (0, 32, C)], [(70, 1, A), (5, 2, B), (32, 1, C)]]


def memory_after(case: Case, device: CpuDevice, steps: Sequence[StepInputs]) -> npt.NDArray[np.uint8]:
    """The bytes of the CPU backend's cache, of NaN before the steps."""
    backend = CpuBackend(device)
    executable, cache = case.compile_on(backend), poisoned(case, backend, NUM_BLOCKS)
    for step in steps:
        executable.run(step, cache)
    return np.stack([cache.block(0, index) for index in range(NUM_BLOCKS)])


def decoded(memory: npt.NDArray[np.uint8], shape: Shape) -> Coded:
    """The arrays in them, as native/kernels/kv_codes.h says."""
    heads, size = shape.kv_heads, shape.head_dim
    parts = memory.reshape(NUM_BLOCKS, heads, -1)
    lengths = [BLOCK_SIZE * size, BLOCK_SIZE * size, 4 * BLOCK_SIZE, 4 * BLOCK_SIZE, size, 4]
    keys, values, key_scales, value_scales, bases, base_scales = (
        np.ascontiguousarray(part) for part in np.split(parts, np.cumsum(lengths), axis=-1)[:-1]
    )
    by_token = (NUM_BLOCKS, BLOCK_SIZE, heads, size)
    # Quads of dimensions of each token; of each 16 dimensions, quads of tokens of each dimension.
    keys = keys.reshape(NUM_BLOCKS, heads, size // 4, BLOCK_SIZE, 4).transpose(0, 3, 1, 2, 4).reshape(by_token)
    values = values.reshape(NUM_BLOCKS, heads, size // 16, 4, 16, 4).transpose(0, 3, 5, 1, 2, 4).reshape(by_token)
    return Coded(
        keys=(keys ^ 128).view(np.int8),
        key_scales=key_scales.view(np.float32).transpose(0, 2, 1),
        values=(values ^ 128).view(np.int8),
        value_scales=value_scales.view(np.float32).transpose(0, 2, 1),
        bases=bases.view(np.int8),
        base_scales=base_scales.view(np.float32)[..., 0],
    )


def reference_after(case: Case, steps: Sequence[StepInputs]) -> Coded:
    """What the reference's cache holds."""
    backend = ReferenceBackend()
    executable, cache = case.compile_on(backend), case.allocate_kv(backend, NUM_BLOCKS)
    assert isinstance(cache, ReferenceKVCache)
    for step in steps:
        executable.run(step, cache)
    keys, values = cache._keys[0], cache._values[0]
    assert isinstance(keys, CodedKeys) and isinstance(values, CodedHeads)
    return Coded(keys.codes, keys.scales, values.codes, values.scales, keys.base_codes, keys.base_scales)


def awkward(shape: Shape, num_tokens: int, seed: int) -> dict[str, Floats]:
    """Random q, k and v. Some heads are zero, too small for a scale, not finite, or in the middle of codes."""
    tensors = shape.tensors(num_tokens, seed)
    if num_tokens < 60:
        return tensors
    ties = np.zeros(shape.head_dim, np.float32)
    ties[:16] = [127, 0.5, 1.5, 2.5, -0.5, -1.5, -126.5, 126.5, 64, 63.5, 0, -0.0, -127, 3.5, 4.5, 5.5]
    part = shape.head_dim & -shape.head_dim
    for name in ("k", "v"):
        x = tensors[name].reshape(num_tokens, shape.kv_heads, shape.head_dim)
        # Of the first block, whose keys have the base 0, then of others.
        x[0], x[1], x[2] = 0, 2.0**-101 / shape.head_dim, 2.0**-100
        x[3], x[4, 0, :2] = rotate(ties, part) / np.float32(part), [3e38, -3e38]
        x[17, 0, 3], x[20, 0, 7], x[32, 1, 0] = np.inf, np.nan, np.nan
    return tensors


def steps_of(shape: Shape) -> list[StepInputs]:
    """The chunks with awkward rows."""
    sizes = [sum(count for _, count, _ in parts) for parts in CHUNKS]
    rows = [awkward(shape, size, 10 * seed) for seed, size in enumerate(sizes)]
    return [cached_step(tensors, parts) for tensors, parts in zip(rows, CHUNKS, strict=True)]


@pytest.mark.parametrize("head_dim", HEAD_DIMS)
def test_codes_and_scales_are_those_of_the_reference(device: CpuDevice, head_dim: int) -> None:
    shape = Shape(2, 1, head_dim)
    case, steps = shape.case(DType.I8), steps_of(shape)
    got, want = decoded(memory_after(case, device, steps), shape), reference_after(case, steps)
    ends = ((A, 71), (B, 7), (C, 33))
    slots = np.concatenate([slots_of(ints(table), ints(range(length))) for table, length in ends])
    is_written = np.isin(np.arange(NUM_BLOCKS * BLOCK_SIZE), slots).reshape(NUM_BLOCKS, BLOCK_SIZE)
    for field in fields(Coded):
        mine, theirs = getattr(got, field.name), getattr(want, field.name)
        mask = is_written.any(axis=1) if field.name.startswith("base") else is_written
        np.testing.assert_array_equal(mine[mask], theirs[mask], field.name)
        # No byte of another slot was touched.
        assert (np.ascontiguousarray(mine[~mask]).view(np.uint8) == UNTOUCHED.get(field.name, 0xFF)).all()
    first, second, third = A[:3]
    assert (got.value_scales[first, :2] == 0).all() and (got.value_scales[first, 2] > 0).all()
    for codes, scales in ((got.keys, got.key_scales), (got.values, got.value_scales)):
        assert scales[first, 3, 0] == 1 and codes[first, 3, 0, :8].tolist() == [127, 0, 2, 2, 0, -2, -126, 126]
        assert np.isnan(scales[second, [1, 4], 0]).all() and np.isfinite(scales[second, [0, 2, 3, 5], 0]).all()
        assert np.isnan(scales[third, 0, 1])
    # A base that is not finite leaves no key of its block a scale.
    assert np.isnan(got.base_scales[third, 1]) and np.isnan(got.key_scales[third, :, 1]).all()


@pytest.mark.parametrize("head_dim", [48, 64])
@pytest.mark.parametrize("size", [1, 5, 16, 40])
def test_how_a_prompt_was_cut_changes_no_byte(device: CpuDevice, head_dim: int, size: int) -> None:
    shape = Shape(2, 1, head_dim)
    case, tensors = shape.case(DType.I8), shape.tensors(70, 3)
    cuts = pairwise([*range(0, 70, size), 70])
    pieces = [cached_step({n: rows[a:b] for n, rows in tensors.items()}, [(a, b - a, A)]) for a, b in cuts]
    whole = cached_step(tensors, [(0, 70, A)])
    assert np.array_equal(memory_after(case, device, pieces), memory_after(case, device, [whole]))


@pytest.mark.parametrize("head_dim", [48, 64, 128])
@pytest.mark.parametrize("is_common", [True, False], ids=["every key", "some keys"])
def test_a_channel_that_stands_out_does_not_coarsen_the_others(
    single: CpuDevice, head_dim: int, is_common: bool
) -> None:
    shape, rng = Shape(1, 2, head_dim), np.random.default_rng(5)
    tensors = {name: normal((200, size), seed) for seed, (name, size) in enumerate(shape.inputs.items())}
    tensors["k"][:, int(rng.integers(head_dim))] += 60 if is_common else 60 * rng.integers(0, 2, 200)
    step = cached_step(tensors, [(0, 200, range(13))])
    (exact,), (coded,) = (on_poisoned_cpu(shape.case(kv), single, [step], 20) for kv in (DType.F32, DType.I8))
    # Codes of the keys as they are would be 0.47 apart, and outputs 0.025 off.
    assert np.sqrt(np.mean((coded["y"] - exact["y"]) ** 2)) < (0.0025 if is_common else 0.01)
