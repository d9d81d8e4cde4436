"""Layers as GPTQ checkpoints hold them (AutoGPTQ, GPTQModel): integers in words along the inputs.

    qweight  I32 [inputs * bits / 32, outputs]   consecutive inputs, the first in the lowest bits
    qzeros   I32 [groups, outputs * bits / 32]   zero points of consecutive outputs
    scales   F16 or BF16 [groups, outputs]
    g_idx    I32 [inputs]                        the group of each input; may be absent

``value = scale * (code - zero_point)``. Format ``gptq`` stores zero points less one: its writers take 1 off all
integers of a word at once, with the borrows that this gives, and so it is added here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from lepton_ai.errors import UnsupportedModel
from lepton_ai.weights.files import shown
from lepton_ai.weights.integer_layer import IntegerForm, IntegerRows, Words, unpack_words, words_that_hold
from lepton_ai.weights.layer_tensors import LayerTensors, Scales

_ONES: Final = {4: 0x11111111, 8: 0x01010101}
"""1 in every integer of a word, by bits."""


@dataclass(frozen=True, slots=True)
class GPTQ:
    """How a checkpoint's layers are quantised. ``group_size``: inputs that share a scale, None for a whole row.

    ``is_offset``: zero points are stored less one. It implements ``quantized_store.Scheme``.
    """

    bits: int
    group_size: int | None
    is_offset: bool

    @property
    def endings(self) -> tuple[str, ...]:
        """The tensors of a layer; the first makes it one."""
        return ("qweight", "qzeros", "scales", "g_idx")

    def layer(self, tensors: LayerTensors) -> GPTQLayer:
        """The layer that ``tensors`` make. Raises InvalidModel, and UnsupportedModel for inputs in another order."""
        per_word = 32 // self.bits
        qweight = tensors.words("qweight", (None, None))
        num_inputs, num_outputs = qweight.shape[0] * per_word, qweight.shape[1]
        form = IntegerForm(tensors.name, num_outputs, num_inputs, self.bits, self.group_size or num_inputs)
        qzeros = tensors.words("qzeros", (form.num_groups, -(-num_outputs // per_word)))
        scales = tensors.scales("scales", (form.num_groups, num_outputs), can_be_f32=False)
        if tensors.dtype("g_idx") is not None:
            _check_order(tensors, form)
        return GPTQLayer(form, qweight, qzeros, scales, self.is_offset)


@dataclass(frozen=True, slots=True)
class GPTQLayer:
    """One layer; it implements ``IntegerLayer``."""

    form: IntegerForm
    qweight: Words
    qzeros: Words
    scales: Scales
    is_offset: bool

    def rows(self, first: int, count: int) -> IntegerRows:
        """``count`` rows from ``first`` on."""
        codes = np.ascontiguousarray(self.qweight[:, first : first + count].T, "<u4").view(np.uint8)
        words, inside = words_that_hold(first, count, self.form.bits)
        qzeros = self.qzeros[:, words] + np.uint32(_ONES[self.form.bits] if self.is_offset else 0)
        zero_points = unpack_words(qzeros, self.form.bits)[:, inside].T - np.uint8(self.form.middle)
        return IntegerRows(codes, self.scales.columns(first, count), zero_points.view(np.int8))


def _check_order(tensors: LayerTensors, form: IntegerForm) -> None:
    g_idx: npt.NDArray[np.signedinteger] = tensors.integers("g_idx", (form.num_inputs,), "I32")
    if not 0 <= g_idx.min() <= g_idx.max() < form.num_groups:
        found = f"{g_idx.min()} to {g_idx.max()}"
        raise tensors.wrong("g_idx", f"groups from 0 to {form.num_groups - 1}", found)
    if not np.array_equal(g_idx, np.arange(form.num_inputs) // form.group):
        where = shown(f"{tensors.name}.g_idx")
        raise UnsupportedModel(
            f"{where}: expected groups of {form.group} consecutive inputs, got inputs in the order of their activation "
            "(desc_act without static_groups)",
            param="model",
        )
