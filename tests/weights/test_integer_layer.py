"""Rows of integer layers as blocks: which type, which group, and some rows at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from tests.weights.quantized_layers import Layer, pack, random_layer

from lepton_ai.errors import UnsupportedModel
from lepton_ai.weights import integer_layer
from lepton_ai.weights.formats import WeightType, dequantize
from lepton_ai.weights.integer_layer import IntegerForm, IntegerRows, LayerRows, unpack_words, words_that_hold


@dataclass
class FakeLayer:
    """A layer in memory that counts what is asked of it."""

    layer: Layer
    most_rows: int = 0

    @property
    def form(self) -> IntegerForm:
        num_outputs, num_inputs = self.layer.codes.shape
        return IntegerForm("layer", num_outputs, num_inputs, self.layer.bits, self.layer.group)

    def rows(self, first: int, count: int) -> IntegerRows:
        self.most_rows = max(self.most_rows, count)
        part, middle = slice(first, first + count), 1 << (self.layer.bits - 1)
        codes = self.layer.codes[part]
        octets = codes if self.layer.bits == 8 else codes[:, ::2] | codes[:, 1::2] << 4
        return IntegerRows(
            octets.astype(np.uint8), self.layer.scales[part], (self.layer.zeros[part] - middle).astype(np.int8)
        )


@pytest.mark.parametrize(
    ("bits", "num_inputs", "group", "expected"),
    [
        (4, 256, 128, WeightType.INT4_G128),
        (4, 256, 256, WeightType.INT4_G128),
        (4, 512, 384, WeightType.INT4_G128),
        (4, 256, 64, WeightType.INT4_G32),
        (4, 576, 576, WeightType.INT4_G32),
        (4, 320, 128, WeightType.INT4_G32),
        (8, 128, 128, WeightType.INT8_G128),
        (8, 64, 96, WeightType.INT8_G32),
    ],
)
def test_the_type_and_the_values(bits: int, num_inputs: int, group: int, expected: WeightType) -> None:
    fake = FakeLayer(random_layer(5, num_inputs, bits=bits, group=group))
    assert fake.form.type is expected and fake.form.num_groups == fake.layer.zeros.shape[1]
    values = dequantize(LayerRows(fake, 0, 5).read(), expected, (5, num_inputs))
    np.testing.assert_array_equal(values, fake.layer.values())


def test_some_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integer_layer, "_CHUNK_BYTES", 100)
    fake = FakeLayer(random_layer(17, 64))
    values = dequantize(LayerRows(fake, 0, 17).read(), fake.form.type, (17, 64))
    np.testing.assert_array_equal(values, fake.layer.values())
    assert fake.most_rows == 3  # of 32 bytes


def test_a_part_of_a_part() -> None:
    fake = FakeLayer(random_layer(20, 64))
    part = LayerRows(fake, 0, 20).part(4, 12).part(2, 5)
    np.testing.assert_array_equal(dequantize(part.read(), fake.form.type, (5, 64)), fake.layer.values()[6:11])


@pytest.mark.parametrize(("num_inputs", "group"), [(40, 40), (64, 48), (48, 16)])
def test_groups_that_no_block_divides_are_refused(num_inputs: int, group: int) -> None:
    with pytest.raises(UnsupportedModel, match=rf"'x': inputs: .* got {num_inputs} in groups of {group}"):
        IntegerForm("x", 8, num_inputs, 4, group)


@pytest.mark.parametrize("bits", [4, 8])
def test_packed_integers_and_the_words_that_hold_them(bits: int) -> None:
    integers = np.random.default_rng(0).integers(0, 1 << bits, (3, 48))
    words = pack(integers, bits).view(np.uint32)
    np.testing.assert_array_equal(unpack_words(words, bits), integers)
    for first, count in ((0, 48), (5, 9), (8, 8), (47, 1), (3, 0)):
        some, inside = words_that_hold(first, count, bits)
        np.testing.assert_array_equal(unpack_words(words[:, some], bits)[:, inside], integers[:, first : first + count])
