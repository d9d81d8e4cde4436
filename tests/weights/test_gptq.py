"""GPTQ layers: every width, group and format, bit for bit; whatever does not fit is refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.weights.quantized_layers import Array, Layer, Tensors, gptq, layer_tensors, pack, random_layer

from lepton_ai.errors import InvalidModel, UnsupportedModel
from lepton_ai.weights.formats import WeightType, dequantize
from lepton_ai.weights.gptq import GPTQ
from lepton_ai.weights.integer_layer import LayerRows


def _read(tensors: Tensors, bits: int, group: int, *, is_offset: bool = True) -> Array:
    scheme = GPTQ(bits, None if group == -1 else group, is_offset=is_offset)
    layer = scheme.layer(layer_tensors(tensors))
    form = layer.form
    rows = LayerRows(layer, 0, form.num_outputs)
    return dequantize(rows.read(), form.type, (form.num_outputs, form.num_inputs))


@pytest.mark.parametrize("is_offset", [True, False])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(("num_inputs", "group"), [(96, 32), (192, 64), (256, 128), (576, -1), (320, 128), (64, 128)])
@pytest.mark.parametrize("bits", [4, 8])
def test_values(bits: int, num_inputs: int, group: int, symmetric: bool, is_offset: bool) -> None:
    layer = random_layer(40, num_inputs, bits=bits, group=group, symmetric=symmetric)
    np.testing.assert_array_equal(
        _read(gptq(layer, is_offset=is_offset), bits, group, is_offset=is_offset), layer.values()
    )


@pytest.mark.parametrize(("first", "count"), [(0, 13), (8, 5), (3, 7), (12, 1), (5, 0)])
def test_a_part_of_the_rows(first: int, count: int) -> None:
    layer = random_layer(13, 64)
    read = GPTQ(4, 32, is_offset=True).layer(layer_tensors(gptq(layer)))
    rows = LayerRows(read, 0, 13).part(first, count)
    values = dequantize(rows.read(), read.form.type, (count, 64))
    np.testing.assert_array_equal(values, layer.values()[first : first + count])


def test_scales_in_bf16() -> None:
    layer = random_layer(8, 64, scale_dtype="BF16")
    np.testing.assert_array_equal(_read(gptq(layer), 4, 32), layer.values())


@pytest.mark.parametrize("bits", [4, 8])
def test_offset_zero_points_are_those_less_one(bits: int) -> None:
    layer = random_layer(16, 64, bits=bits)
    above_zero = Layer(bits, 32, layer.codes, np.maximum(layer.zeros, 1), layer.scales)
    tensors = gptq(above_zero)
    np.testing.assert_array_equal(tensors["qzeros"][1], pack(above_zero.zeros.T - 1, bits))


def test_outputs_that_fill_no_word() -> None:
    layer = random_layer(13, 64)
    np.testing.assert_array_equal(_read(gptq(layer), 4, 32), layer.values())


def test_a_checkpoint_without_an_index_of_groups() -> None:
    layer, tensors = random_layer(8, 64), gptq(random_layer(8, 64))
    del tensors["g_idx"]
    np.testing.assert_array_equal(_read(tensors, 4, 32), layer.values())


def test_the_type_has_the_largest_block_that_fits() -> None:
    for num_inputs, group, expected in ((256, 128, WeightType.INT4_G128), (192, 64, WeightType.INT4_G32)):
        tensors = layer_tensors(gptq(random_layer(8, num_inputs, group=group)))
        assert GPTQ(4, group, is_offset=True).layer(tensors).form.type is expected


def test_inputs_in_the_order_of_their_activation_are_refused() -> None:
    tensors = gptq(random_layer(8, 64))
    g_idx = np.random.default_rng(0).permutation(tensors["g_idx"][1])
    tensors["g_idx"] = ("I32", g_idx)
    with pytest.raises(UnsupportedModel, match=r"'layer\.g_idx': expected groups of 32 consecutive inputs, .*desc_act"):
        _read(tensors, 4, 32)


def _changed(ending: str, change: Any) -> Tensors:
    tensors = gptq(random_layer(8, 64))
    dtype, array = tensors[ending]
    tensors[ending] = change(dtype, array)
    return tensors


@pytest.mark.parametrize(
    ("ending", "change", "message"),
    [
        ("qweight", lambda t, a: ("I64", a.astype(np.int64)), r"qweight': expected I32 \(any, any\), got I64 \(8, 8\)"),
        ("qweight", lambda t, a: (t, a.reshape(-1)), r"qweight': expected I32 \(any, any\), got I32 \(64,\)"),
        ("qweight", lambda t, a: (t, a[:0]), r"qweight': expected I32 \(any, any\), got I32 \(0, 8\)"),
        ("qweight", lambda t, a: (t, a[:4]), r"qzeros': expected I32 \(1, 1\), got I32 \(2, 1\)"),
        ("qzeros", lambda t, a: (t, a[:1]), r"qzeros': expected I32 \(2, 1\), got I32 \(1, 1\)"),
        ("qzeros", lambda t, a: ("F32", a.astype(np.float32)), r"qzeros': expected I32 \(2, 1\), got F32"),
        ("scales", lambda t, a: (t, a[:, :7]), r"scales': expected F16 or BF16 or F32 \(2, 8\), got F16 \(2, 7\)"),
        ("g_idx", lambda t, a: (t, a[:-1]), r"g_idx': expected I32 \(64\), got I32 \(63,\)"),
        ("g_idx", lambda t, a: (t, a + 1), r"g_idx': expected groups from 0 to 1, got 1 to 2"),
        ("g_idx", lambda t, a: (t, a - 1), r"g_idx': expected groups from 0 to 1, got -1 to 0"),
    ],
)
def test_tensors_that_do_not_fit(ending: str, change: Any, message: str) -> None:
    with pytest.raises(InvalidModel, match=message) as raised:
        _read(_changed(ending, change), 4, 32)
    assert type(raised.value) is InvalidModel and raised.value.param == "model"


@pytest.mark.parametrize("ending", ["qweight", "qzeros", "scales"])
def test_a_tensor_that_is_missing(ending: str) -> None:
    tensors = gptq(random_layer(8, 64))
    del tensors[ending]
    with pytest.raises(InvalidModel, match=rf"'layer\.{ending}': expected .*, got none"):
        _read(tensors, 4, 32)


def test_scales_whose_products_would_be_rounded() -> None:
    with pytest.raises(UnsupportedModel, match=r"'layer\.scales': expected F16 or BF16, .* got F32"):
        _read(gptq(random_layer(8, 64, scale_dtype="F32")), 4, 32)


def test_inputs_that_no_block_divides() -> None:
    with pytest.raises(
        UnsupportedModel, match=r"'layer': inputs: expected groups of a multiple of 32, got 40 in groups"
    ):
        _read(gptq(random_layer(8, 40, group=-1)), 4, -1)
