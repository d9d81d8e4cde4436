"""AWQ layers of version ``gemm``: every group, bit for bit; whatever does not fit is refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.weights.quantized_layers import Array, Tensors, awq, layer_tensors, random_layer

from lepton_ai.errors import InvalidModel
from lepton_ai.weights.awq import AWQ
from lepton_ai.weights.formats import dequantize
from lepton_ai.weights.integer_layer import LayerRows


def _read(tensors: Tensors, group: int) -> Array:
    layer = AWQ(None if group == -1 else group).layer(layer_tensors(tensors))
    form = layer.form
    rows = LayerRows(layer, 0, form.num_outputs)
    return dequantize(rows.read(), form.type, (form.num_outputs, form.num_inputs))


@pytest.mark.parametrize(("num_inputs", "group"), [(96, 32), (192, 64), (256, 128), (576, -1), (320, 128)])
@pytest.mark.parametrize("scale_dtype", ["F16", "BF16"])
def test_values(num_inputs: int, group: int, scale_dtype: str) -> None:
    layer = random_layer(40, num_inputs, group=group, scale_dtype=scale_dtype)
    np.testing.assert_array_equal(_read(awq(layer), group), layer.values())


def test_the_order_of_a_word() -> None:
    # As the format's writer has it: integer i of a word is that of output (0, 2, 4, 6, 1, 3, 5, 7)[i].
    words = np.zeros((32, 1), np.uint32)
    words[3, 0] = 0x76543210
    zeros = np.zeros((1, 1), np.uint32)
    scales = np.ones((1, 8), np.float16)
    tensors: Tensors = {
        "qweight": ("I32", words.view(np.int32)),
        "qzeros": ("I32", zeros.view(np.int32)),
        "scales": ("F16", scales),
    }
    values = _read(tensors, 32)
    assert values[:, 3].tolist() == [0, 4, 1, 5, 2, 6, 3, 7]
    assert not np.delete(values, 3, axis=1).any()


@pytest.mark.parametrize(("first", "count"), [(0, 40), (8, 16), (3, 10), (39, 1), (13, 0)])
def test_a_part_of_the_rows(first: int, count: int) -> None:
    layer = random_layer(40, 64)
    read = AWQ(32).layer(layer_tensors(awq(layer)))
    rows = LayerRows(read, 0, 40).part(first, count)
    values = dequantize(rows.read(), read.form.type, (count, 64))
    np.testing.assert_array_equal(values, layer.values()[first : first + count])


@pytest.mark.parametrize(
    ("ending", "change", "message"),
    [
        ("qweight", lambda t, a: ("I8", a.view(np.int8)), r"qweight': expected I32 \(any, any\), got I8 \(64, 4\)"),
        ("qweight", lambda t, a: (t, a[:32]), r"qzeros': expected I32 \(1, 1\), got I32 \(2, 1\)"),
        ("qzeros", lambda t, a: (t, a.T), r"qzeros': expected I32 \(2, 1\), got I32 \(1, 2\)"),
        ("scales", lambda t, a: (t, a.T), r"scales': expected F16 or BF16 or F32 \(2, 8\), got F16 \(8, 2\)"),
    ],
)
def test_tensors_that_do_not_fit(ending: str, change: Any, message: str) -> None:
    tensors = awq(random_layer(8, 64))
    tensors[ending] = change(*tensors[ending])
    with pytest.raises(InvalidModel, match=message) as raised:
        _read(tensors, 32)
    assert type(raised.value) is InvalidModel
