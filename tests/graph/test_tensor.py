from __future__ import annotations

import pytest

from lepton_ai.graph.tensor import DType, evaluate_shape, format_shape, q8_row_bytes, round_up, row_bytes, symbol


@pytest.mark.parametrize(("value", "expected"), [(0, 0), (1, 64), (64, 64), (65, 128)])
def test_round_up(value: int, expected: int) -> None:
    assert round_up(value, 64) == expected


@pytest.mark.parametrize(
    ("columns", "expected"),
    # codes + 20 bytes for each group of 32, to 64: 32+20, 32+20 (padded), 64+40, 576+18*20, 1536+48*20
    [(32, 64), (1, 64), (33, 128), (576, 896), (1536, 2304)],
)
def test_q8_rows_hold_codes_scales_and_sums(columns: int, expected: int) -> None:
    assert q8_row_bytes(columns) == expected
    assert row_bytes(DType.Q8, columns) == expected
    assert row_bytes(DType.Q16, columns) == 2 * expected


def test_quantised_types_say_how_many_rows_of_8_bits_they_are() -> None:
    assert {d: d.num_terms for d in DType} == {
        DType.F32: 0,
        DType.F16: 0,
        DType.BF16: 0,
        DType.I8: 0,
        DType.I16: 0,
        DType.I32: 0,
        DType.Q8: 1,
        DType.Q16: 2,
        DType.R8: 1,
        DType.R8_ROW: 1,
    }
    assert [d.itemsize for d in (DType.Q8, DType.Q16, DType.I8, DType.I16, DType.F16, DType.F32)] == [1, 2, 1, 2, 2, 4]


def test_rows_start_at_cache_lines() -> None:
    assert [row_bytes(d, 17) for d in (DType.F32, DType.F16, DType.I32)] == [128, 64, 128]
    assert [row_bytes(d, 256) for d in (DType.Q8, DType.R8, DType.R8_ROW)] == [384, 384, 320]


def test_affine_dimensions_add_scale_and_print() -> None:
    tokens, rows = symbol("T"), symbol("R")
    dim = 2 * (tokens + rows) + tokens + 1
    assert dim.evaluate({"T": 10, "R": 3}) == 37
    assert str(dim) == "2R+3T+1"
    assert tokens + -1 * tokens == rows * 0
    assert evaluate_shape((tokens, 8), {"T": 5}) == (5, 8)
    assert format_shape((tokens + 1, 8)) == "[T+1, 8]"


def test_a_symbol_without_a_size_is_an_error() -> None:
    with pytest.raises(KeyError):
        symbol("T").evaluate({"R": 1})
