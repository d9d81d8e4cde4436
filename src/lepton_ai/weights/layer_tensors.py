"""The tensors that make one quantised layer of a checkpoint, each checked as it is taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lepton_ai.errors import InvalidModel, UnsupportedModel
from lepton_ai.weights.files import shown
from lepton_ai.weights.integer_layer import Floats, Words
from lepton_ai.weights.safetensors import RawTensor

_ARRAY_TYPES: Final[Mapping[str, str]] = {
    "I8": "|i1",
    "I32": "<i4",
    "I64": "<i8",
    "F16": "<f2",
    "F32": "<f4",
    "BF16": "<u2",
}


@dataclass(frozen=True, slots=True)
class LayerTensors:
    """Tensors ``<name>.<ending>`` of the layer ``name``, by ending.

    What takes one raises InvalidModel for a tensor that is missing, of another type or of another shape, in which None
    stands for any size of at least 1.
    """

    name: str
    tensors: Mapping[str, RawTensor]

    def dtype(self, ending: str) -> str | None:
        """The type of this tensor; None if the layer does not have it."""
        return self.tensors[ending].dtype if ending in self.tensors else None

    def integers(self, ending: str, shape: Sequence[int | None], *dtypes: str) -> npt.NDArray[np.signedinteger[Any]]:
        """Integers of one of ``dtypes``."""
        return self._take(ending, shape, dtypes)

    def words(self, ending: str, shape: Sequence[int | None]) -> Words:
        """Packed integers of type I32, as words of 32 bits."""
        return self._take(ending, shape, ("I32",)).view("<u4")

    def scales(self, ending: str, shape: Sequence[int | None], *, can_be_f32: bool) -> Scales:
        """Scales of type F16 or BF16. Raises UnsupportedModel for F32 where its products would be rounded."""
        values = self._take(ending, shape, ("F16", "BF16", "F32"))
        if values.dtype == np.float32 and not can_be_f32:
            where = shown(f"{self.name}.{ending}")
            raise UnsupportedModel(f"{where}: expected F16 or BF16, as zero points need it, got F32", param="model")
        return Scales(values)

    def wrong(self, ending: str, expected: str, got: object) -> InvalidModel:
        """The error of a tensor."""
        return InvalidModel(f"{shown(f'{self.name}.{ending}')}: expected {expected}, got {got}", param="model")

    def _take(self, ending: str, shape: Sequence[int | None], dtypes: Sequence[str]) -> npt.NDArray[Any]:
        wanted = f"{' or '.join(dtypes)} ({', '.join('any' if size is None else str(size) for size in shape)})"
        tensor = self.tensors.get(ending)
        if tensor is None:
            raise self.wrong(ending, wanted, "none")
        fits = len(shape) == len(tensor.shape) and all(
            actual >= 1 and size in (None, actual) for size, actual in zip(shape, tensor.shape, strict=True)
        )
        if tensor.dtype not in dtypes or not fits:
            raise self.wrong(ending, wanted, f"{tensor.dtype} {tensor.shape}")
        return tensor.data.view(_ARRAY_TYPES[tensor.dtype]).reshape(tensor.shape)


@dataclass(frozen=True, slots=True)
class Scales:
    """Scales as a file has them: f16, f32, or the bits of bf16."""

    values: npt.NDArray[Any]

    def rows(self, first: int, count: int) -> Floats:
        """Rows of ``[outputs, groups]`` in f32."""
        return _as_floats(self.values[first : first + count])

    def columns(self, first: int, count: int) -> Floats:
        """Columns of ``[groups, outputs]`` in f32, as rows."""
        return _as_floats(self.values[:, first : first + count]).T


def _as_floats(values: npt.NDArray[Any]) -> Floats:
    if values.dtype != np.uint16:
        return values.astype(np.float32)
    return (values.astype(np.uint32) << np.uint32(16)).view(np.float32)
