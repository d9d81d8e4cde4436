"""Layers as compressed-tensors checkpoints hold them (LLM Compressor), in the formats of integers.

    pack-quantized  weight_packed      I32 [outputs, inputs * bits / 32]   consecutive inputs, the first in the low bits
                    weight_shape       I64 or I32 [2]
                    weight_zero_point  I32 [outputs * bits / 32, groups], or I8 [outputs, groups]
    int-quantized   weight             I8 [outputs, inputs]
                    weight_zero_point  I8 [outputs, groups]
    both            weight_scale       F16, BF16, or F32 without zero points; [outputs, groups]

``value = scale * (integer - zero_point)``, both signed; packed ones are stored with half of their range added. A layer
without a zero point is symmetric.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lepton_ai.weights.integer_layer import (
    Bytes,
    IntegerForm,
    IntegerRows,
    SignedBytes,
    Words,
    unpack_words,
    words_that_hold,
)
from lepton_ai.weights.layer_tensors import LayerTensors, Scales


@dataclass(frozen=True, slots=True)
class CompressedTensors:
    """How a checkpoint's layers are quantised. ``group_size``: inputs that share a scale, None for a whole row.

    It implements ``quantized_store.Scheme``.
    """

    bits: int
    group_size: int | None
    is_packed: bool
    is_symmetric: bool

    @property
    def endings(self) -> tuple[str, ...]:
        """The tensors of a layer; the first makes it one."""
        weight = ("weight_packed", "weight_shape") if self.is_packed else ("weight",)
        return ("weight_scale", *weight, *(() if self.is_symmetric else ("weight_zero_point",)))

    def layer(self, tensors: LayerTensors) -> CompressedLayer:
        """The layer that ``tensors`` make. Raises InvalidModel, and UnsupportedModel for groups that nothing holds."""
        if self.is_packed:
            num_outputs, num_inputs = self._packed_shape(tensors)
            packed = tensors.words("weight_packed", (num_outputs, -(-num_inputs * self.bits // 32)))
            codes = packed.view(np.uint8)
        else:
            integers = tensors.integers("weight", (None, None), "I8")
            num_outputs, num_inputs = integers.shape
            codes = integers.view(np.uint8)
        form = IntegerForm(tensors.name, num_outputs, num_inputs, self.bits, self.group_size or num_inputs)
        scales = tensors.scales("weight_scale", (num_outputs, form.num_groups), can_be_f32=self.is_symmetric)
        zero_points = None if self.is_symmetric else _take_zero_points(tensors, form, is_packed=self.is_packed)
        return CompressedLayer(form, codes, scales, zero_points, is_packed=self.is_packed)

    def _packed_shape(self, tensors: LayerTensors) -> tuple[int, int]:
        num_outputs, num_inputs = map(int, tensors.integers("weight_shape", (2,), "I64", "I32"))
        if not (0 < num_outputs < 1 << 31 and 0 < num_inputs < 1 << 31):
            raise tensors.wrong("weight_shape", "two sizes below 2^31", (num_outputs, num_inputs))
        return num_outputs, num_inputs


@dataclass(frozen=True, slots=True)
class CompressedLayer:
    """One layer; it implements ``IntegerLayer``. ``codes`` and ``zero_points`` lie as they do in the file: integers, or
    words of them.
    """

    form: IntegerForm
    codes: Bytes
    scales: Scales
    zero_points: SignedBytes | Words | None
    is_packed: bool

    def rows(self, first: int, count: int) -> IntegerRows:
        """``count`` rows from ``first`` on."""
        codes = self.codes[first : first + count]
        if not self.is_packed:
            codes = codes ^ np.uint8(self.form.middle)
        return IntegerRows(codes, self.scales.rows(first, count), self._zero_point_rows(first, count))

    def _zero_point_rows(self, first: int, count: int) -> SignedBytes:
        if self.zero_points is None:
            return np.zeros((count, self.form.num_groups), np.int8)
        if self.zero_points.dtype == np.int8:
            return self.zero_points[first : first + count].view(np.int8)
        words, inside = words_that_hold(first, count, self.form.bits)
        unsigned = unpack_words(self.zero_points[words].T.view(np.uint32), self.form.bits)[:, inside]
        return (unsigned.T - np.uint8(self.form.middle)).view(np.int8)


def _take_zero_points(tensors: LayerTensors, form: IntegerForm, *, is_packed: bool) -> SignedBytes | Words:
    if is_packed and tensors.dtype("weight_zero_point") != "I8":
        return tensors.words("weight_zero_point", (-(-form.num_outputs * form.bits // 32), form.num_groups))
    return tensors.integers("weight_zero_point", (form.num_outputs, form.num_groups), "I8").view(np.int8)
