"""A store that gives numbers only: what is copied out of it has no NaN and no infinity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

import numpy as np

from lepton_ai.errors import InvalidModel
from lepton_ai.weights.formats import WeightType
from lepton_ai.weights.store import StoredTensor, WeightStore

_INFINITIES: Final[Mapping[WeightType, np.uint16 | np.uint32]] = MappingProxyType(
    {
        WeightType.F32: np.uint32(0x7F800000),
        WeightType.F16: np.uint16(0x7C00),
        WeightType.BF16: np.uint16(0x7F80),
    }
)
"""The bits of an infinity; as an integer, a NaN is larger, and every number smaller."""

_CHUNK: Final = 1 << 18
"""Elements that are looked at together: what a core's own cache holds."""


class FiniteStore:
    """``store``, each tensor checked when it is released: its pages are there then, and whoever copied it goes on.

    A backend computes with what it is given, as IEEE 754 has it; a published file that holds no numbers is damaged.
    """

    def __init__(self, store: WeightStore) -> None:
        self._store = store

    @property
    def digest(self) -> str:
        """See ``WeightStore.digest``."""
        return self._store.digest

    def names(self) -> Sequence[str]:
        """See ``WeightStore.names``."""
        return self._store.names()

    def get(self, name: str) -> StoredTensor:
        """See ``WeightStore.get``."""
        return self._store.get(name)

    def release(self, name: str) -> None:
        """See ``WeightStore.release``. Raises InvalidModel for a tensor that has a NaN or an infinity."""
        check_finite(self._store.get(name))
        self._store.release(name)


def check_finite(tensor: StoredTensor) -> None:
    """Raise InvalidModel if ``tensor`` has a NaN or an infinity; with columns, if the whole matrix has.

    Quantised types are not looked at: of them only the scales could be either.
    """
    if tensor.type not in _INFINITIES or not isinstance(tensor.stored, np.ndarray):
        return
    infinity = _INFINITIES[tensor.type]
    without_sign = infinity.dtype.type(np.iinfo(infinity.dtype).max >> 1)
    bits = tensor.stored.view(infinity.dtype)
    for start in range(0, len(bits), _CHUNK):
        if (bits[start : start + _CHUNK] & without_sign).max() >= infinity:
            raise InvalidModel(f"{tensor.name}: expected finite weights, got a NaN or an infinity", param="model")
