"""Quantisation, rotation, tables, sums, rows and embeddings, at sizes that fill no vector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from tests.kernels.harness import (
    EPS,
    QUANTISED,
    WIDE,
    Case,
    Floats,
    assert_within,
    identity,
    ints,
    normal,
    plain_step,
    rows_of,
)
from tests.models.tiny import random_tensor

from lepton_ai.backends.cpu.device import CpuDevice
from lepton_ai.config import Policy
from lepton_ai.errors import InvalidRequest, UnsupportedModel
from lepton_ai.graph import ops
from lepton_ai.graph.tensor import DType, Weight, symbol
from lepton_ai.graph.trace import Trace
from lepton_ai.weights.formats import WeightType
from lepton_ai.weights.store import StoredTensor

SIZES = (1, 3, 4, 15, 16, 17, 33, 64, 100, 576)
ROWS = 9


def quantised(device: CpuDevice, x: Floats) -> tuple[Floats, Floats]:
    """Rows through 8 bits and back, on the device and on the reference."""
    trace, size = Trace(), x.shape[1]
    y = ops.linear(rows_of(trace, "x", size), Weight("identity", (size, size)), name="y")
    case = Case(trace.finish([y]), (identity(size),), Policy.AUTO)
    return case.on_cpu(device, [plain_step({"x": x})])[0]["y"], case.on_reference([plain_step({"x": x})])[0]["y"]


def test_quantize_is_the_reference_bit_for_bit(device: CpuDevice) -> None:
    # With the largest value 127 the codes are the values themselves: each middle goes to the even neighbour.
    x = np.concatenate([np.arange(-126.5, 127, 1), np.array([127, -127]), normal((160 - 256 % 160,), 1)])
    x = np.resize(x, (3, 160)).astype(np.float32)
    x[:, ::32] = 127
    got, want = quantised(device, x)
    assert np.array_equal(got, want)
    got, want = quantised(device, normal((100, 96), 2))
    assert np.array_equal(got, want)


def test_quantize_of_groups_that_are_not_usable(device: CpuDevice) -> None:
    x = np.ones((5, 64), np.float32)
    x[0, :32], x[1, 3], x[2, 40], x[3, 63], x[4, :32] = 2.0**-101, np.inf, np.nan, -np.inf, 2.0**-100
    got, want = quantised(device, x)
    assert np.array_equal(got, want, equal_nan=True)
    assert not got[0, :32].any() and np.isnan(got[1:4]).any(axis=1).all() and got[4].all()


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize(("head_dim", "rotary_dim"), [(16, 16), (64, 64), (128, 128), (64, 32), (80, 20), (6, 2)])
def test_rope(device: CpuDevice, head_dim: int, rotary_dim: int, interleaved: bool) -> None:
    trace = Trace()
    x, table = rows_of(trace, "x", 3 * head_dim), rows_of(trace, "table", rotary_dim)
    y = ops.rope(x, table, head_dim=head_dim, interleaved=interleaved, name="y")
    values, angles = normal((ROWS, 3 * head_dim), 1), normal((ROWS, rotary_dim // 2), 2)
    rows = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
    (got,) = Case(trace.finish([y])).on_cpu(device, [plain_step({"x": values, "table": rows})])
    heads = values.reshape(ROWS, 3, head_dim)
    assert np.array_equal(got["y"].reshape(heads.shape)[..., rotary_dim:], heads[..., rotary_dim:])
    want, sizes = rotated(heads[..., :rotary_dim], rows, interleaved=interleaved)
    assert_within(got["y"].reshape(heads.shape)[..., :rotary_dim], want, sizes, 1.0)


def rotated(heads: Floats, table: Floats, *, interleaved: bool) -> tuple[Floats, Floats]:
    """Rotation as complex multiplication, and the sums of magnitudes of its terms; heads ``[T, H, D]``."""
    half = heads.shape[-1] // 2
    pairs = heads.reshape(*heads.shape[:2], half, 2) if interleaved else np.stack(np.split(heads, 2, axis=-1), axis=-1)
    wide = pairs.astype(np.float64)
    turns = (table[:, :half] + 1j * table[:, half:])[:, None, :]
    product = (wide[..., 0] + 1j * wide[..., 1]) * turns
    sizes = np.abs(wide).sum(axis=-1)
    parts = [(product.real, product.imag), (sizes, sizes)]
    joined = [np.stack(p, axis=-1).reshape(heads.shape) if interleaved else np.concatenate(p, axis=-1) for p in parts]
    return joined[0].astype(np.float32), joined[1].astype(np.float32)


@pytest.mark.parametrize("interleaved", [False, True])
def test_rope_is_that_of_the_reference(device: CpuDevice, interleaved: bool) -> None:
    trace = Trace()
    positions = trace.input("positions", (symbol("T"),), DType.I32)
    table = ops.rope_table(positions, [1.0, 0.3, 0.01, 0.0004], name="table")
    y = ops.rope(rows_of(trace, "x", 24), table, head_dim=8, interleaved=interleaved, name="y")
    case, x = Case(trace.finish([y])), normal((ROWS, 24), 1)
    steps = [plain_step({"x": x}, positions=range(1000, 1000 + ROWS))]
    (got,), (want,) = case.on_cpu(device, steps), case.on_reference(steps)
    np.testing.assert_allclose(got["y"], want["y"], rtol=0, atol=4 * EPS * np.abs(x).max())


@pytest.mark.parametrize("scale", [1.0, 0.75])
@pytest.mark.parametrize("count", [1, 5, 32])
def test_rope_table(device: CpuDevice, count: int, scale: float) -> None:
    trace = Trace()
    positions = trace.input("positions", (symbol("T"),), DType.I32)
    y = ops.rope_table(positions, [float(f) for f in 10000.0 ** (-np.arange(count) / count)], name="y", scale=scale)
    steps = [plain_step(token_ids=[0] * 9, positions=[0, 1, 2, 3, 100, 511, 4095, 32767, 131071])]
    case = Case(trace.finish([y]))
    (got,), (want,) = case.on_cpu(device, steps), case.on_reference(steps)
    assert_within(got["y"], want["y"], np.maximum(np.abs(want["y"]), 1e-6), 0.0 if scale == 1 else 1.0)


@pytest.mark.parametrize("size", SIZES)
def test_add_and_gather_rows(device: CpuDevice, size: int) -> None:
    trace = Trace()
    rows = trace.input("logit_rows", (symbol("R"),), DType.I32)
    total = ops.add(rows_of(trace, "a", size), rows_of(trace, "b", size), name="sum")
    case = Case(trace.finish([ops.gather_rows(total, rows, name="y")]), taps=("sum",))
    a, b, wanted = normal((ROWS, size), 1), normal((ROWS, size), 2), [8, 0, 3, 3, 1, 8]
    (got,) = case.on_cpu(device, [plain_step({"a": a, "b": b}, logit_rows=wanted)])
    assert np.array_equal(got["sum"], a + b)
    assert np.array_equal(got["y"], (a + b)[wanted])


def embedded(device: CpuDevice, weight_type: WeightType, shape: tuple[int, int], ids: Sequence[int]) -> None:
    trace = Trace()
    y = ops.embedding(trace.input("token_ids", (symbol("T"),), DType.I32), Weight("table", shape), name="y")
    case = Case(trace.finish([y]), (random_tensor("table", shape, weight_type, seed=shape[1]),))
    steps = [plain_step(token_ids=ids)]
    (got,), (want,) = case.on_cpu(device, steps), case.on_reference(steps)
    assert np.array_equal(got["y"], want["y"])


@pytest.mark.parametrize("num_columns", [256, 768, 32, 96, 288])
@pytest.mark.parametrize("weight_type", QUANTISED)
def test_embedding_of_a_quantised_table(device: CpuDevice, weight_type: WeightType, num_columns: int) -> None:
    if num_columns % weight_type.block_elements == 0:
        embedded(device, weight_type, (50, num_columns), [0, 49, 15, 16, 17, 33, 33, 7, 48])


@pytest.mark.parametrize("num_columns", [1, 31, 32, 40, 577])
@pytest.mark.parametrize("weight_type", WIDE)
def test_embedding_of_a_wide_table(device: CpuDevice, weight_type: WeightType, num_columns: int) -> None:
    embedded(device, weight_type, (19, num_columns), [0, 18, 15, 16, 17])


def test_every_half_is_read_exactly(single: CpuDevice) -> None:
    halves = np.arange(65536, dtype=np.uint16)
    trace = Trace()
    y = ops.embedding(trace.input("token_ids", (symbol("T"),), DType.I32), Weight("table", (64, 1024)), name="y")
    table = StoredTensor("table", (64, 1024), WeightType.F16, halves.view(np.uint8))
    (got,) = Case(trace.finish([y]), (table,)).on_cpu(single, [plain_step(token_ids=range(64))])
    with np.errstate(invalid="ignore"):  # NumPy reports signalling NaNs on arm64
        wanted = halves.view(np.float16).astype(np.float32)
    assert np.array_equal(got["y"].reshape(-1), wanted, equal_nan=True)


@pytest.mark.parametrize("weight_type", [WeightType.F16, WeightType.Q4_0])
def test_scaled_embedding(device: CpuDevice, weight_type: WeightType) -> None:
    trace = Trace()
    ids = trace.input("token_ids", (symbol("T"),), DType.I32)
    y = ops.embedding(ids, Weight("table", (50, 64)), name="y", scale=25.3)
    case = Case(trace.finish([y]), (random_tensor("table", (50, 64), weight_type, seed=1),))
    steps = [plain_step(token_ids=[0, 49, 16])]
    (got,), (want,) = case.on_cpu(device, steps), case.on_reference(steps)
    assert np.array_equal(got["y"], want["y"])


def learned_positions() -> Case:
    """Ids into a table of 50 plus positions into one of 20."""
    trace = Trace()
    ids, positions = (trace.input(name, (symbol("T"),), DType.I32) for name in ("token_ids", "positions"))
    tokens = ops.embedding(ids, Weight("tokens", (50, 40)), name="token")
    places = ops.embedding(positions, Weight("places", (20, 40)), name="place")
    tables = [random_tensor(n, (size, 40), WeightType.F16, seed=size) for n, size in (("tokens", 50), ("places", 20))]
    return Case(trace.finish([ops.add(tokens, places, name="y")]), tuple(tables))


def test_embedding_of_positions(device: CpuDevice) -> None:
    steps = [plain_step(token_ids=[49, 3, 20], positions=[0, 19, 7])]
    (got,), (want,) = learned_positions().on_cpu(device, steps), learned_positions().on_reference(steps)
    assert np.array_equal(got["y"], want["y"])


@pytest.mark.parametrize("position", [20, -1])
def test_a_position_outside_its_table_is_refused(single: CpuDevice, position: int) -> None:
    with pytest.raises(InvalidRequest, match="positions"):
        learned_positions().on_cpu(single, [plain_step(token_ids=[1, 2], positions=[0, position])])


def token_types() -> Case:
    """Types into a table of 2, plus positions into one of 20 whose first 2 rows are no position's."""
    trace = Trace()
    types, positions = (trace.input(name, (symbol("T"),), DType.I32) for name in ("token_type_ids", "positions"))
    kinds = ops.embedding(types, Weight("types", (2, 40)), name="type")
    places = ops.embedding(positions, Weight("places", (20, 40)), name="place", first_row=2)
    tables = [random_tensor(n, (size, 40), WeightType.F16, seed=size) for n, size in (("types", 2), ("places", 20))]
    return Case(trace.finish([ops.add(kinds, places, name="y")]), tuple(tables))


@pytest.mark.parametrize("types", [None, [1, 0, 1]])
def test_embedding_of_token_types_and_of_later_rows(device: CpuDevice, types: list[int] | None) -> None:
    step = plain_step(token_ids=[49, 3, 20], positions=[0, 17, 7])
    steps = [replace(step, token_type_ids=None if types is None else ints(types))]
    (got,), (want,) = token_types().on_cpu(device, steps), token_types().on_reference(steps)
    assert np.array_equal(got["y"], want["y"])


def test_rows_outside_a_table_are_refused(single: CpuDevice) -> None:
    good = plain_step(token_ids=[1, 2], positions=[0, 1])
    for types in ([0, 2], [0], [-1, 0]):
        with pytest.raises(InvalidRequest, match="token_type_ids"):
            token_types().on_cpu(single, [replace(good, token_type_ids=ints(types))])
    with pytest.raises(InvalidRequest, match="positions"):
        token_types().on_cpu(single, [replace(good, positions=ints([0, 18]))])


def test_embedding_reads_ids_or_positions(single: CpuDevice) -> None:
    trace = Trace()
    y = ops.embedding(trace.input("kinds", (symbol("T"),), DType.I32), Weight("table", (2, 40)), name="y")
    case = Case(trace.finish([y]), (random_tensor("table", (2, 40), WeightType.F16, seed=1),))
    with pytest.raises(UnsupportedModel, match=r"y: expected an embedding of token_ids, .*, got one of kinds"):
        case.on_cpu(single, [plain_step(token_ids=[1])])
