"""GGUF models in several files: parts that belong together are one model, others are refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.weights.gguf_writer import Value, write_gguf
from tests.weights.open_files import open_files

from lepton_ai.errors import InvalidModel, LeptonError, ModelNotFound, WeightMismatch
from lepton_ai.weights.checkpoint import open_checkpoint
from lepton_ai.weights.formats import WeightType
from lepton_ai.weights.gguf import GGUFFile
from lepton_ai.weights.gguf_split import SplitGGUF

NO_CHANGES: Mapping[str, Value] = {}


def _part(folder: Path, number: int, names: str, count: int = 3, changes: Mapping[str, Value] = NO_CHANGES) -> Path:
    path = folder / f"m-{number + 1:05}-of-00003.gguf"
    metadata: dict[str, Value] = {"split.no": number, "split.count": count, "split.tensors.count": 4, **changes}
    if number == 0:
        metadata["general.architecture"] = "llama"
    write_gguf(path, metadata, {name: (WeightType.F32, (3,), bytes([number]) * 12) for name in names})
    return path


def _refused(path: Path, kind: type[LeptonError], message: str) -> None:
    with pytest.raises(kind, match=message) as raised:
        open_checkpoint(path)
    assert type(raised.value) is kind and raised.value.param == "model"
    del raised
    assert open_files(path.parent) == []


def test_parts_are_one_model(tmp_path: Path) -> None:
    first, *_ = [_part(tmp_path, number, names) for number, names in enumerate(["", "ab", "cd"])]
    with open_checkpoint(first, tmp_path / "home") as model:
        assert isinstance(model, SplitGGUF) and model.version == 3
        assert model.names() == ("a", "b", "c", "d")
        assert model.get("d").data.tolist() == [2] * 12
        assert model.metadata.get_str("general.architecture") == "llama"
        assert model.num_bytes == sum(path.stat().st_size for path in tmp_path.glob("*.gguf"))
        digest = model.digest
    _part(tmp_path, 2, "cd", changes={"x": 1})
    with open_checkpoint(first) as model:
        assert model.digest != digest


def test_a_model_of_one_part_is_a_file(tmp_path: Path) -> None:
    path = _part(tmp_path, 0, "a", count=1)
    with open_checkpoint(path) as model:
        assert isinstance(model, GGUFFile)


def test_another_part_than_the_first(tmp_path: Path) -> None:
    _refused(_part(tmp_path, 1, "ab"), InvalidModel, "expected the first part of the model, NAME-00001-of-0000N.gguf")
    path = _part(tmp_path, 0, "ab").rename(tmp_path / "model.gguf")
    _refused(path, InvalidModel, "expected the first part of the model")


def test_a_part_that_is_missing(tmp_path: Path) -> None:
    first = _part(tmp_path, 0, "")
    _part(tmp_path, 1, "ab")
    _refused(first, ModelNotFound, "m-00003-of-00003.gguf")


@pytest.mark.parametrize(
    ("names", "changes", "kind", "message"),
    [
        ("cd", {"split.no": 1}, InvalidModel, "split.no, split.count: expected 2, 3, got 1, 3"),
        ("cd", {"split.count": 4}, InvalidModel, "split.no, split.count: expected 2, 3, got 2, 4"),
        ("cd", {"split.count": 4000}, InvalidModel, "split.count.*: expected at most 1024"),
        ("bc", {}, WeightMismatch, "'b': expected it in one file, got it in m-00002-of-00003.gguf and m-00003"),
        ("c", {}, WeightMismatch, "split.tensors.count: expected 4 tensors in all parts, got 3"),
    ],
)
def test_parts_that_do_not_belong_together(
    tmp_path: Path, names: str, changes: Mapping[str, Value], kind: type[LeptonError], message: str
) -> None:
    first = _part(tmp_path, 0, "")
    _part(tmp_path, 1, "ab")
    _part(tmp_path, 2, names, changes=changes)
    _refused(first, kind, message)
