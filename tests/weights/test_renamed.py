"""Tensors under other names: split, turned, prefixed; what cannot be is refused."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from tests.models.tiny import MemoryStore, random_tensor, stored

from lepton_ai.errors import InvalidModel, WeightMismatch
from lepton_ai.weights.formats import WeightType, dequantize
from lepton_ai.weights.renamed import Rename, RenamedStore, one_to_one
from lepton_ai.weights.store import StoredTensor

QKV = ("blk.{}.q", "blk.{}.k", "blk.{}.v")


def _values(tensor: StoredTensor) -> npt.NDArray[np.float32]:
    return dequantize(tensor.data, tensor.type, tensor.shape)


def _store(**arrays: npt.NDArray[np.float32]) -> MemoryStore:
    return MemoryStore({name: stored(name, values) for name, values in arrays.items()})


def test_layers_and_endings_are_kept() -> None:
    names = ("model.layers.11.norm.weight", "model.layers.11.norm.bias", "lm_head.weight")
    store = MemoryStore({name: stored(name, np.ones(3, np.float32)) for name in names})
    renames = one_to_one({"layers.{}.norm": "blk.{}.attn_norm", "lm_head": "output"})
    renamed = RenamedStore(store, renames, prefixes=("model.",))
    assert renamed.names() == ("blk.11.attn_norm.weight", "blk.11.attn_norm.bias", "output.weight")
    assert renamed.get("output.weight").name == "output.weight" and renamed.digest == store.digest


def test_old_names_of_norms() -> None:
    store = _store(**{"LayerNorm.gamma": np.ones(3, np.float32), "LayerNorm.beta": np.zeros(3, np.float32)})
    renamed = RenamedStore(store, one_to_one({"LayerNorm": "norm"}))
    assert renamed.names() == ("norm.weight", "norm.bias")


def test_a_name_that_no_pattern_knows_is_kept_for_strict_loading() -> None:
    store = _store(**{"h.1.attn.extra": np.ones(2, np.float32), "h.1.attn.bias": np.ones(2, np.float32)})
    renamed = RenamedStore(store, one_to_one({"h.{}.ln": "blk.{}.norm"}), ignored=("h.{}.attn",))
    assert renamed.names() == ("h.1.attn.extra",)


@pytest.mark.parametrize("is_transposed", [False, True])
def test_a_joined_matrix_is_split_along_its_outputs(is_transposed: bool) -> None:
    matrix = np.arange(30, dtype=np.float32).reshape(6, 5)
    bias = np.arange(6, dtype=np.float32)
    stored_matrix = np.ascontiguousarray(matrix.T) if is_transposed else matrix
    store = _store(**{"h.0.qkv.weight": stored_matrix, "h.0.qkv.bias": bias})
    renamed = RenamedStore(store, [Rename("h.{}.qkv", QKV, is_transposed)])
    for index, part in enumerate("qkv"):
        tensor = renamed.get(f"blk.0.{part}.weight")
        assert tensor.shape == (2, 5) and tensor.num_bytes == 40 == tensor.data.nbytes
        np.testing.assert_array_equal(_values(tensor), matrix[2 * index : 2 * index + 2])
        np.testing.assert_array_equal(_values(renamed.get(f"blk.0.{part}.bias")), bias[2 * index : 2 * index + 2])


def test_rows_of_quantised_blocks_are_split_where_they_lie() -> None:
    whole = random_tensor("qkv.weight", (6, 64), WeightType.Q4_1, 0)
    renamed = RenamedStore(MemoryStore({whole.name: whole}), [Rename("qkv", ("q", "k", "v"))])
    part = renamed.get("k.weight")
    assert part.data.base is not None and np.shares_memory(part.data, whole.data)
    np.testing.assert_array_equal(_values(part), _values(whole)[2:4])


def test_what_cannot_be_shared_out_is_refused() -> None:
    store = _store(**{"qkv.weight": np.ones((7, 4), np.float32)})
    renamed = RenamedStore(store, [Rename("qkv", ("q", "k", "v"))])
    with pytest.raises(
        InvalidModel, match=r"qkv\.weight: expected a matrix or vector of 3 equal parts, got shape \(7,"
    ):
        renamed.get("q.weight")
    turned = random_tensor("w.weight", (64, 64), WeightType.Q8_0, 0)
    with pytest.raises(InvalidModel, match=r"w\.weight: expected a matrix"):
        RenamedStore(MemoryStore({turned.name: turned}), [Rename("w", ("w",), is_transposed=True)]).get("w.weight")


def test_two_tensors_of_one_name_are_refused() -> None:
    store = _store(**{"a.weight": np.ones(2, np.float32), "model.a.weight": np.ones(2, np.float32)})
    with pytest.raises(WeightMismatch, match=r"one tensor for b\.weight, got a\.weight and model\.a\.weight"):
        RenamedStore(store, one_to_one({"a": "b"}), prefixes=("model.",))
    with pytest.raises(WeightMismatch, match="expected a tensor c, got none"):
        RenamedStore(store, []).get("c")
