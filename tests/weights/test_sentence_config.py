"""Folders of sentence-transformers: what they declare is read, what is not known is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lepton_ai.errors import InvalidModel, UnsupportedModel
from lepton_ai.graph.attrs import PoolMode
from lepton_ai.weights.sentence_config import SentenceConfig, read_sentence_config

KIND = "sentence_transformers.models."
TRANSFORMER = {"idx": 0, "name": "0", "path": "", "type": f"{KIND}Transformer"}
POOLING = {"idx": 1, "name": "1", "path": "1_Pooling", "type": f"{KIND}Pooling"}
NORMALIZE = {"idx": 2, "name": "2", "path": "2_Normalize", "type": f"{KIND}Normalize"}
MEAN = {"word_embedding_dimension": 384, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}


def _folder(path: Path, modules: object, pooling: object = MEAN, sentence: object = None) -> Path:
    (path / "1_Pooling").mkdir()
    (path / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (path / "modules.json").write_text(json.dumps(modules))
    if sentence is not None:
        (path / "sentence_bert_config.json").write_text(json.dumps(sentence))
    return path


def test_a_folder_that_says_nothing(tmp_path: Path) -> None:
    assert read_sentence_config(tmp_path) is None


def test_mean_and_normalisation(tmp_path: Path) -> None:
    folder = _folder(tmp_path, [TRANSFORMER, POOLING, NORMALIZE], sentence={"max_seq_length": 256})
    assert read_sentence_config(folder) == SentenceConfig(PoolMode.MEAN, True, 256)


@pytest.mark.parametrize(
    ("pooling", "mode"),
    [
        ({"pooling_mode_cls_token": True}, "cls"),
        ({"pooling_mode_max_tokens": True}, "max"),
        ({"pooling_mode_lasttoken": True, "include_prompt": True}, "last"),
        ({"pooling_mode_mean_sqrt_len_tokens": True}, "mean_sqrt_len"),
        ({"pooling_mode": "cls"}, "cls"),
    ],
)
def test_ways_of_pooling(tmp_path: Path, pooling: object, mode: str) -> None:
    config = read_sentence_config(_folder(tmp_path, [TRANSFORMER, POOLING], pooling))
    assert config == SentenceConfig(PoolMode(mode), False, None)


@pytest.mark.parametrize(
    ("pooling", "message"),
    [
        ({}, "expected one way of pooling.*got none"),
        ({"pooling_mode_weightedmean_tokens": True}, "got pooling_mode_weightedmean_tokens"),
        ({**MEAN, "pooling_mode_cls_token": True}, "got pooling_mode_cls_token, pooling_mode_mean_tokens"),
        ({**MEAN, "pooling_mode_new": True}, "unknown keys: 'pooling_mode_new'"),
        ({"pooling_mode": "attention"}, "got attention"),
    ],
)
def test_other_ways_are_refused(tmp_path: Path, pooling: object, message: str) -> None:
    with pytest.raises(UnsupportedModel, match=message):
        read_sentence_config(_folder(tmp_path, [TRANSFORMER, POOLING], pooling))


@pytest.mark.parametrize(
    ("modules", "kind", "message"),
    [
        ([TRANSFORMER], UnsupportedModel, "expected Transformer, Pooling and perhaps Normalize, got Transformer"),
        ([TRANSFORMER, POOLING, {**NORMALIZE, "type": f"{KIND}Dense"}], UnsupportedModel, "Pooling, Dense"),
        ([{**TRANSFORMER, "path": "0_T"}, POOLING], UnsupportedModel, "expected the transformer in the folder itself"),
        ([TRANSFORMER, {**POOLING, "path": "../1_Pooling"}], InvalidModel, "expected the name of a folder"),
        ([TRANSFORMER, {"path": "x"}], InvalidModel, "expected a type and a path"),
        ([3], InvalidModel, "expected a type and a path"),
        ([], InvalidModel, "expected modules, got none"),
        ({}, InvalidModel, "expected a list, got dict"),
    ],
)
def test_other_modules_are_refused(tmp_path: Path, modules: object, kind: type[InvalidModel], message: str) -> None:
    with pytest.raises(kind, match=message):
        read_sentence_config(_folder(tmp_path, modules))


@pytest.mark.parametrize("value", [0, -1, True, "256", 1 << 30])
def test_a_length_out_of_bounds_is_refused(tmp_path: Path, value: object) -> None:
    with pytest.raises(InvalidModel, match="max_seq_length: expected 1 to"):
        read_sentence_config(_folder(tmp_path, [TRANSFORMER, POOLING], sentence={"max_seq_length": value}))
