"""Checkpoints with quantised layers as stores: one tensor a layer, the others as they are, contradictions refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from tests.weights.quantized_layers import (
    Array,
    Tensors,
    awq,
    gptq,
    int_quantized,
    pack_quantized,
    random_layer,
    write_checkpoint,
)

from lepton_ai.errors import InvalidModel, LeptonError, UnsupportedModel, WeightMismatch
from lepton_ai.weights.awq import AWQ
from lepton_ai.weights.compressed_tensors import CompressedTensors
from lepton_ai.weights.folder import CheckpointFolder
from lepton_ai.weights.formats import WeightType, dequantize
from lepton_ai.weights.gptq import GPTQ
from lepton_ai.weights.packed_format import stem_prefix
from lepton_ai.weights.quantized_store import QuantizedStore, Scheme
from lepton_ai.weights.renamed import Rename, RenamedStore
from lepton_ai.weights.store import StoredTensor, WeightStore

LAYER = random_layer(24, 64)
SCHEME = GPTQ(4, 32, is_offset=True)
PLAIN = ("F16", np.ones((3, 4), np.float16))


def _folder(path: Path, tensors: Mapping[str, tuple[str, Array]]) -> CheckpointFolder:
    return CheckpointFolder(write_checkpoint(path, {}, tensors))


def _named(name: str, tensors: Tensors) -> Tensors:
    return {f"{name}.{ending}": tensor for ending, tensor in tensors.items()}


def _values(tensor: StoredTensor) -> Array:
    return dequantize(tensor.data, tensor.type, tensor.shape)


def test_a_layer_is_one_tensor_and_the_others_stay(tmp_path: Path) -> None:
    tensors = {"norm.weight": PLAIN, **_named("a.q", gptq(LAYER)), "a.q.bias": PLAIN, "head.weight": PLAIN}
    with _folder(tmp_path, tensors) as folder:
        store: WeightStore = QuantizedStore(folder, SCHEME)
        assert sorted(store.names()) == ["a.q.bias", "a.q.weight", "head.weight", "norm.weight"]
        tensor = store.get("a.q.weight")
        assert (tensor.name, tensor.shape, tensor.type) == ("a.q.weight", (24, 64), WeightType.INT4_G32)
        assert tensor.data.nbytes == tensor.num_bytes == 24 * 2 * 21
        np.testing.assert_array_equal(_values(tensor), LAYER.values())
        store.release("a.q.weight")
        store.release("norm.weight")
        np.testing.assert_array_equal(_values(tensor), LAYER.values())
        np.testing.assert_array_equal(_values(store.get("head.weight")), np.ones((3, 4), np.float32))
        with pytest.raises(WeightMismatch, match=r"'b\.weight'"):
            store.get("b.weight")


def test_release_reaches_every_tensor_of_a_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    released: list[str] = []
    with _folder(tmp_path, _named("a", gptq(LAYER))) as folder:
        monkeypatch.setattr(folder, "release", released.append)
        QuantizedStore(folder, SCHEME).release("a.weight")
    assert sorted(released) == ["a.g_idx", "a.qweight", "a.qzeros", "a.scales"]


def test_plain_integers_have_the_name_that_they_had(tmp_path: Path) -> None:
    layer = random_layer(24, 64, bits=8, group=-1, symmetric=True)
    tensors = {**_named("a", int_quantized(layer, symmetric=True)), "ignored.weight": PLAIN}
    with _folder(tmp_path, tensors) as folder:
        store = QuantizedStore(folder, CompressedTensors(8, None, is_packed=False, is_symmetric=True))
        assert sorted(store.names()) == ["a.weight", "ignored.weight"]
        np.testing.assert_array_equal(_values(store.get("a.weight")), layer.values())


def test_a_joined_layer_is_split_and_never_turned(tmp_path: Path) -> None:
    with _folder(tmp_path, _named("h.0.attn.c_attn", gptq(LAYER))) as folder:
        renames = [Rename("h.{}.attn.c_attn", ("q.{}", "k.{}", "v.{}"), is_transposed=True)]
        store = RenamedStore(QuantizedStore(folder, SCHEME), renames)
        for index, name in enumerate(store.names()):
            tensor = store.get(name)
            assert tensor.shape == (8, 64) and tensor.num_bytes == tensor.data.nbytes
            np.testing.assert_array_equal(_values(tensor), LAYER.values()[8 * index : 8 * index + 8])


def test_the_digest_says_how_the_checkpoint_is_read(tmp_path: Path) -> None:
    with _folder(tmp_path, _named("a", gptq(LAYER))) as folder:
        offset, plain = (QuantizedStore(folder, GPTQ(4, 32, is_offset=is_offset)).digest for is_offset in (True, False))
        assert offset != plain and offset == QuantizedStore(folder, SCHEME).digest
        assert stem_prefix(offset) == stem_prefix(plain) == stem_prefix(folder.digest) != stem_prefix("")


@pytest.mark.parametrize(
    ("more", "unquantized", "error", "message"),
    [
        ({"a.weight": PLAIN}, (), WeightMismatch, "'a': expected weight or qweight, got both"),
        ({}, ("a",), InvalidModel, "'a': expected a layer that is not quantised, got qweight"),
        ({"b.qweight": PLAIN}, (), InvalidModel, r"'b\.qweight': expected I32 \(any, any\), got F16 \(3, 4\)"),
    ],
)
def test_contradictions(
    tmp_path: Path, more: Tensors, unquantized: tuple[str, ...], error: type[Exception], message: str
) -> None:
    with _folder(tmp_path, {**_named("a", gptq(LAYER)), **more}) as folder:
        with pytest.raises(error, match=message) as raised:
            QuantizedStore(folder, SCHEME, unquantized=unquantized)
        assert type(raised.value) is error


def test_what_no_layer_takes_is_left_for_strict_loading(tmp_path: Path) -> None:
    with _folder(tmp_path, {**_named("a", gptq(LAYER)), "b.scales": PLAIN, "a.extra": PLAIN}) as folder:
        assert set(QuantizedStore(folder, SCHEME).names()) == {"a.weight", "b.scales", "a.extra"}


def test_integers_of_no_layer_are_refused(tmp_path: Path) -> None:
    tensors: Tensors = {**_named("a", gptq(LAYER)), "b.integers": ("I32", np.zeros((2, 2), np.int32))}
    with _folder(tmp_path, tensors) as folder, pytest.raises(UnsupportedModel, match=r"'b\.integers': .* got I32"):
        QuantizedStore(folder, SCHEME).get("b.integers")


SCHEMES: list[tuple[Scheme, Tensors]] = [
    (SCHEME, gptq(LAYER)),
    (AWQ(None), awq(random_layer(24, 64, group=-1))),
    (CompressedTensors(4, 32, is_packed=True, is_symmetric=False), pack_quantized(LAYER, symmetric=False)),
    (
        CompressedTensors(8, 32, is_packed=False, is_symmetric=False),
        int_quantized(random_layer(24, 64, bits=8), symmetric=False),
    ),
]
SIZES = (0, 1, 2, 3, 8, 24, 32, 64)
DTYPES = {"I8": "i1", "I32": "<i4", "I64": "<i8", "F16": "<f2", "BF16": "<u2", "F32": "<f4", "F8_E4M3": "u1"}


def _changed(tensors: Tensors, rng: np.random.Generator) -> Tensors:
    """One tensor left out, or of another type, shape and content."""
    ending = str(rng.choice(list(tensors)))
    if rng.integers(4) == 0:
        return {name: tensor for name, tensor in tensors.items() if name != ending}
    dtype, array = tensors[ending]
    if rng.integers(2):
        dtype = str(rng.choice(list(DTYPES)))
    shape = array.shape if rng.integers(2) else tuple(rng.choice(SIZES, rng.integers(0, 4)))
    raw = rng.integers(0, 256, int(np.prod(shape)) * np.dtype(DTYPES[dtype]).itemsize, np.uint8)
    return {**tensors, ending: (dtype, raw.view(DTYPES[dtype]).reshape(shape))}


@pytest.mark.parametrize(("scheme", "tensors"), SCHEMES)
def test_whatever_the_tensors_are_they_are_read_or_refused(tmp_path: Path, scheme: Scheme, tensors: Tensors) -> None:
    rng, outcomes = np.random.default_rng(0), Counter[str]()
    for index in range(150):
        path = tmp_path / str(index)
        with _folder(path, _named("a", _changed(tensors, rng))) as folder:
            try:
                store = QuantizedStore(folder, scheme)
                for tensor in map(store.get, store.names()):
                    assert _values(tensor).shape == tensor.shape
                outcomes["read"] += 1
            except LeptonError as error:
                assert error.param == "model"
                outcomes["refused"] += 1
    assert outcomes["read"] > 5 and outcomes["refused"] > 50
