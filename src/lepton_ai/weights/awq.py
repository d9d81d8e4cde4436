"""Layers as AWQ checkpoints of version ``gemm`` hold them (AutoAWQ): 4-bit integers in words along the outputs.

    qweight  I32 [inputs, outputs / 8]
    qzeros   I32 [groups, outputs / 8]
    scales   F16 or BF16 [groups, outputs]

``value = scale * (code - zero_point)``. The integers of a word, from the lowest bits on, are those of outputs 0, 2, 4,
6, 1, 3, 5 and 7.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from lepton_ai.weights.integer_layer import Bytes, IntegerForm, IntegerRows, Words, unpack_words, words_that_hold
from lepton_ai.weights.layer_tensors import LayerTensors, Scales

_BITS: Final = 4
_ORDER: Final = (0, 2, 4, 6, 1, 3, 5, 7)


@dataclass(frozen=True, slots=True)
class AWQ:
    """How a checkpoint's layers are quantised. ``group_size``: inputs that share a scale, None for a whole row.

    It implements ``quantized_store.Scheme``.
    """

    group_size: int | None

    @property
    def endings(self) -> tuple[str, ...]:
        """The tensors of a layer; the first makes it one."""
        return ("qweight", "qzeros", "scales")

    def layer(self, tensors: LayerTensors) -> AWQLayer:
        """The layer that ``tensors`` make. Raises InvalidModel, and UnsupportedModel for groups that nothing holds."""
        qweight = tensors.words("qweight", (None, None))
        num_inputs, num_words = qweight.shape
        form = IntegerForm(tensors.name, num_words * 8, num_inputs, _BITS, self.group_size or num_inputs)
        qzeros = tensors.words("qzeros", (form.num_groups, num_words))
        scales = tensors.scales("scales", (form.num_groups, form.num_outputs), can_be_f32=False)
        return AWQLayer(form, qweight, qzeros, scales)


@dataclass(frozen=True, slots=True)
class AWQLayer:
    """One layer; it implements ``IntegerLayer``."""

    form: IntegerForm
    qweight: Words
    qzeros: Words
    scales: Scales

    def rows(self, first: int, count: int) -> IntegerRows:
        """``count`` rows from ``first`` on."""
        words, inside = words_that_hold(first, count, _BITS)
        interleaved = unpack_words(self.qzeros[:, words], _BITS).reshape(self.form.num_groups, -1, 8)
        zero_points = np.empty_like(interleaved)
        zero_points[..., _ORDER] = interleaved
        from_middle = zero_points.reshape(self.form.num_groups, -1)[:, inside].T - np.uint8(self.form.middle)
        codes = _turned(self.qweight[:, words])[inside]
        return IntegerRows(codes, self.scales.columns(first, count), from_middle.view(np.int8))


def _turned(words: Words) -> Bytes:
    """Words ``[inputs, n]`` -> codes of outputs ``[n * 8, inputs / 2]``, pairs of inputs, the first in the low half."""
    octets = np.ascontiguousarray(words, "<u4").view(np.uint8)
    even, odd = octets[0::2], octets[1::2]
    halves = (even & 15) | (odd << 4), (even >> 4) | (odd & 0xF0)
    codes = np.empty((words.shape[1], 8, len(even)), np.uint8)
    for index, output in enumerate(_ORDER):
        codes[:, output] = halves[index % 2][:, index // 2 :: 4].T
    return codes.reshape(-1, len(even))
