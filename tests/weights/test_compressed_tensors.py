"""Layers of compressed-tensors: packed and plain integers, bit for bit; whatever does not fit is refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.weights.quantized_layers import Array, Tensors, int_quantized, layer_tensors, pack_quantized, random_layer

from lepton_ai.errors import InvalidModel, UnsupportedModel
from lepton_ai.weights.compressed_tensors import CompressedTensors
from lepton_ai.weights.formats import dequantize
from lepton_ai.weights.integer_layer import LayerRows

PACKED = CompressedTensors(4, 32, is_packed=True, is_symmetric=False)


def _read(tensors: Tensors, scheme: CompressedTensors) -> Array:
    layer = scheme.layer(layer_tensors(tensors))
    form = layer.form
    rows = LayerRows(layer, 0, form.num_outputs)
    return dequantize(rows.read(), form.type, (form.num_outputs, form.num_inputs))


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("scale_dtype", ["F16", "BF16"])
@pytest.mark.parametrize(("num_inputs", "group"), [(96, 32), (192, 64), (256, 128), (576, -1)])
@pytest.mark.parametrize("bits", [4, 8])
def test_packed_values(bits: int, num_inputs: int, group: int, scale_dtype: str, symmetric: bool) -> None:
    layer = random_layer(13, num_inputs, bits=bits, group=group, symmetric=symmetric, scale_dtype=scale_dtype)
    scheme = CompressedTensors(bits, None if group == -1 else group, is_packed=True, is_symmetric=symmetric)
    np.testing.assert_array_equal(_read(pack_quantized(layer, symmetric=symmetric), scheme), layer.values())


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(("num_inputs", "group"), [(192, 64), (256, -1), (576, -1)])
def test_plain_values(num_inputs: int, group: int, symmetric: bool) -> None:
    layer = random_layer(13, num_inputs, bits=8, group=group, symmetric=symmetric, scale_dtype="BF16")
    scheme = CompressedTensors(8, None if group == -1 else group, is_packed=False, is_symmetric=symmetric)
    np.testing.assert_array_equal(_read(int_quantized(layer, symmetric=symmetric), scheme), layer.values())


@pytest.mark.parametrize(("first", "count"), [(0, 13), (8, 5), (3, 7), (12, 1), (5, 0)])
def test_a_part_of_the_rows(first: int, count: int) -> None:
    layer = random_layer(13, 64)
    read = PACKED.layer(layer_tensors(pack_quantized(layer, symmetric=False)))
    rows = LayerRows(read, 0, 13).part(first, count)
    values = dequantize(rows.read(), read.form.type, (count, 64))
    np.testing.assert_array_equal(values, layer.values()[first : first + count])


def test_zero_points_that_are_not_packed() -> None:
    layer = random_layer(13, 64)
    tensors = pack_quantized(layer, symmetric=False)
    tensors["weight_zero_point"] = ("I8", (layer.zeros - 8).astype(np.int8))
    np.testing.assert_array_equal(_read(tensors, PACKED), layer.values())


def test_scales_in_f32_are_held_where_no_product_is_rounded() -> None:
    layer = random_layer(8, 64, bits=8, group=-1, symmetric=True, scale_dtype="F32")
    scheme = CompressedTensors(8, None, is_packed=False, is_symmetric=True)
    np.testing.assert_array_equal(_read(int_quantized(layer, symmetric=True), scheme), layer.values())
    asymmetric = CompressedTensors(8, None, is_packed=False, is_symmetric=False)
    with pytest.raises(UnsupportedModel, match=r"'layer\.weight_scale': expected F16 or BF16, .* got F32"):
        _read(int_quantized(layer, symmetric=False), asymmetric)


def _shape(*sizes: int) -> tuple[str, Array]:
    return "I64", np.array(sizes, np.int64)


@pytest.mark.parametrize(
    ("ending", "change", "message"),
    [
        ("weight_shape", lambda t, a: _shape(8), r"weight_shape': expected I64 or I32 \(2\), got I64 \(1,\)"),
        ("weight_shape", lambda t, a: _shape(8, -64), r"weight_shape': expected two sizes below 2\^31, got \(8, -64\)"),
        ("weight_shape", lambda t, a: _shape(8, 1 << 40), r"weight_shape': expected two sizes below 2\^31"),
        ("weight_shape", lambda t, a: _shape(8, 96), r"weight_packed': expected I32 \(8, 12\), got I32 \(8, 8\)"),
        ("weight_packed", lambda t, a: (t, a[:7]), r"weight_packed': expected I32 \(8, 8\), got I32 \(7, 8\)"),
        ("weight_scale", lambda t, a: (t, a[:, :1]), r"weight_scale': expected F16 .* \(8, 2\), got F16 \(8, 1\)"),
        (
            "weight_zero_point",
            lambda t, a: (t, a[:, :1]),
            r"weight_zero_point': expected I32 \(1, 2\), got I32 \(1, 1\)",
        ),
    ],
)
def test_tensors_that_do_not_fit(ending: str, change: Any, message: str) -> None:
    tensors = pack_quantized(random_layer(8, 64), symmetric=False)
    tensors[ending] = change(*tensors[ending])
    with pytest.raises(InvalidModel, match=message) as raised:
        _read(tensors, PACKED)
    assert type(raised.value) is InvalidModel


@pytest.mark.parametrize("ending", ["weight_packed", "weight_shape", "weight_scale", "weight_zero_point"])
def test_a_tensor_that_is_missing(ending: str) -> None:
    tensors = pack_quantized(random_layer(8, 64), symmetric=False)
    del tensors[ending]
    with pytest.raises(InvalidModel, match=rf"'layer\.{ending}': expected .*, got none"):
        _read(tensors, PACKED)


def test_plain_integers_of_another_type() -> None:
    tensors = int_quantized(random_layer(8, 64, bits=8), symmetric=True)
    tensors["weight"] = ("F16", tensors["weight"][1].astype(np.float16))
    with pytest.raises(InvalidModel, match=r"'layer\.weight': expected I8 \(any, any\), got F16 \(8, 64\)"):
        _read(tensors, CompressedTensors(8, 32, is_packed=False, is_symmetric=True))
