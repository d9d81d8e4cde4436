"""Folders of safetensors: one file or shards, and every way in which index, files and folder can disagree."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from tests.weights.open_files import open_files

from lepton_ai.errors import InvalidModel, LeptonError, ModelNotFound, UnsupportedModel, WeightMismatch
from lepton_ai.weights.checkpoint import open_checkpoint
from lepton_ai.weights.folder import CheckpointFolder

CONFIG: Mapping[str, object] = {"model_type": "llama"}
A, B = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
SHARDS = {A: ["a", "b"], B: ["c"]}
PLACES = {"a": A, "b": A, "c": B}


def _folder(path: Path, shards: Mapping[str, list[str]], places: object = None) -> Path:
    (path / "config.json").write_text(json.dumps(CONFIG))
    for number, (file, names) in enumerate(shards.items()):
        save_file({name: np.full(3, number, np.float32) for name in names}, path / file)
    if places is not None:
        (path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return path


def _refused(path: Path, kind: type[LeptonError], message: str) -> None:
    with pytest.raises(kind, match=message) as raised:
        open_checkpoint(path)
    assert type(raised.value) is kind and raised.value.param == "model"
    del raised
    assert open_files(path) == []


def test_one_file(tmp_path: Path) -> None:
    with open_checkpoint(_folder(tmp_path, {"model.safetensors": ["a", "b"]}), tmp_path / "home") as folder:
        assert isinstance(folder, CheckpointFolder)
        assert sorted(folder.names()) == ["a", "b"] and folder.config == CONFIG


def test_shards(tmp_path: Path) -> None:
    with open_checkpoint(_folder(tmp_path, SHARDS, PLACES)) as folder:
        assert sorted(folder.names()) == ["a", "b", "c"]
        assert folder.get("c").data.view("<f4").tolist() == [1, 1, 1]
        folder.release("c")
        first = folder.digest
    save_file({"c": np.full(3, 7, np.float32)}, tmp_path / B)
    with open_checkpoint(tmp_path) as folder:
        assert len(first) == 64 and folder.digest != first


def test_a_shard_that_is_missing(tmp_path: Path) -> None:
    _folder(tmp_path, {A: ["a", "b"]}, PLACES)
    _refused(tmp_path, ModelNotFound, B)


def test_a_tensor_that_is_there_twice(tmp_path: Path) -> None:
    _folder(tmp_path, {A: ["a", "b"], B: ["b", "c"]}, PLACES)
    _refused(tmp_path, WeightMismatch, f"'b': expected it in one file, got it in {A} and {B}")


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ({"a": A, "b": B, "c": B}, f"'b' is not in '{B}'"),
        ({**PLACES, "d": A}, f"'d' is not in '{A}'"),
        ({"a": A, "c": B}, "the index does not know 'b'"),
    ],
)
def test_index_and_files_disagree(tmp_path: Path, places: object, message: str) -> None:
    _folder(tmp_path, SHARDS, places)
    _refused(tmp_path, WeightMismatch, f"index and files disagree: {message}")


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ({}, "weight_map: expected an object of file names"),
        (["a"], "weight_map: expected an object of file names"),
        ({"a": 3}, "expected a file name that ends in .safetensors, got 3"),
        ({"a": "../x.safetensors"}, r"'a': expected a file name that ends in .safetensors, got '\.\./x"),
        ({"a": "pytorch_model.bin"}, "expected a file name that ends in .safetensors"),
        ({f"t{i}": f"{i}.safetensors" for i in range(1025)}, "expected at most 1024 files, got 1025"),
    ],
)
def test_malformed_indices(tmp_path: Path, places: object, message: str) -> None:
    _folder(tmp_path, {}, places)
    _refused(tmp_path, InvalidModel, message)


def test_pickles_are_refused_by_name(tmp_path: Path) -> None:
    _folder(tmp_path, {})
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x02}")
    _refused(tmp_path, UnsupportedModel, r"got pytorch_model\.bin, a pickle, which could run code")


def test_an_incomplete_folder(tmp_path: Path) -> None:
    _refused(tmp_path, ModelNotFound, r"config\.json")
    _folder(tmp_path, {})
    _refused(tmp_path, ModelNotFound, r"expected model\.safetensors or model\.safetensors\.index\.json, got neither")
    _folder(tmp_path, {"model.safetensors": ["a"], **SHARDS}, PLACES)
    _refused(tmp_path, InvalidModel, "got both")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("[]", "expected an object, got list"),
        ("{", "expected JSON, got what is not"),
        ('{"a": 1, "a": 2}', "key 'a' stands there twice"),
        (" " * (5 << 20), "expected at most 4194304 bytes of JSON"),
    ],
)
def test_malformed_configs(tmp_path: Path, config: str, message: str) -> None:
    _folder(tmp_path, {"model.safetensors": ["a"]})
    (tmp_path / "config.json").write_text(config)
    _refused(tmp_path, InvalidModel, message)
