"""Weights that are not finite are refused by the tensor's name."""

from __future__ import annotations

import numpy as np
import pytest
from tests.models.tiny import MemoryStore

from lepton_ai.errors import InvalidModel
from lepton_ai.weights.finite import FiniteStore, check_finite
from lepton_ai.weights.formats import WeightType
from lepton_ai.weights.store import StoredTensor

BITS = {
    WeightType.BF16: ("<u2", 0x7F80, 0x7F7F),
    WeightType.F16: ("<u2", 0x7C00, 0x7BFF),
    WeightType.F32: ("<u4", 0x7F800000, 0x7F7FFFFF),
}
"""The type of the bits, those of an infinity, and those of the largest number."""
SIZE = (1 << 18) + 3


def _check(kind: WeightType, index: int, bits: int) -> None:
    values = np.zeros(SIZE, BITS[kind][0])
    values[index] = bits
    data = values.view(np.uint8)
    check_finite(StoredTensor("blk.0.attn_q.weight", (SIZE,), kind, data))


@pytest.mark.parametrize("kind", BITS)
@pytest.mark.parametrize("index", [0, 1 << 18, SIZE - 1])
def test_what_is_not_finite(kind: WeightType, index: int) -> None:
    dtype, infinity, largest = BITS[kind]
    sign = 1 << (8 * np.dtype(dtype).itemsize - 1)
    for finite in (1, largest, largest | sign, sign):
        _check(kind, index, finite)
    for bits in (infinity, infinity | sign, infinity + 1, infinity | sign | 1):
        with pytest.raises(InvalidModel, match=r"blk\.0\.attn_q\.weight: expected finite weights") as raised:
            _check(kind, index, bits)
        assert raised.value.code == "invalid_model"


def test_quantised_types_are_not_looked_at() -> None:
    data = np.full(34, 0xFF, np.uint8)
    check_finite(StoredTensor("x", (32,), WeightType.Q8_0, data))


def test_a_tensor_is_checked_when_it_is_released() -> None:
    good, bad = (np.array([1.0, value], np.float32).view(np.uint8) for value in (2.0, np.nan))
    tensors = {name: StoredTensor(name, (2,), WeightType.F32, data) for name, data in (("good", good), ("bad", bad))}
    inner = MemoryStore(tensors)
    store = FiniteStore(inner)
    assert (store.names(), store.digest) == (["good", "bad"], inner.digest)
    assert store.get("bad") is tensors["bad"]
    store.release("good")
    with pytest.raises(InvalidModel, match="bad: expected finite weights"):
        store.release("bad")
