"""Models and special tokens of hostile ``tokenizer.json`` files."""

from __future__ import annotations

from typing import Any

import pytest

from lepton_ai.errors import InvalidModel, UnsupportedModel
from lepton_ai.text.hf_model import read_model
from lepton_ai.text.hf_special import read_added
from lepton_ai.text.untrusted_json import Fields
from lepton_ai.text.vocabulary import Vocabulary

from .hf_folders import tiny_file
from .test_hf_special import vocabulary


def _with_model(**changes: Any) -> Vocabulary:
    model = {name: value for name, value in {**tiny_file()["model"], **changes}.items() if value is not None}
    return vocabulary(model=model)


@pytest.mark.parametrize(
    ("changes", "error", "named"),
    [
        ({"type": "Unigram"}, UnsupportedModel, "model: expected one of BPE, WordPiece, got 'Unigram'"),
        ({"vocab": {}}, InvalidModel, "1 to 2097152 tokens, got 0"),
        ({"vocab": {"a": 0, "b": 0}}, InvalidModel, "distinct ids"),
        ({"vocab": {"a": -1}}, InvalidModel, "ids below 2097152"),
        ({"vocab": {"a": 1 << 30}}, InvalidModel, "ids below 2097152"),
        ({"vocab": {"a": True}}, InvalidModel, "ids below 2097152"),
        ({"vocab": {"a": [1]}}, InvalidModel, "ids below 2097152"),
        ({"merges": ["a  b"]}, InvalidModel, "merges of two tokens, got 'a  b' at 0"),
        ({"merges": [["a", "b", "c"]]}, InvalidModel, "merges of two tokens"),
        ({"merges": ["a b", "a z"]}, InvalidModel, "that make a third, got 'a' 'z' at 1"),
        ({"merges": 3}, InvalidModel, "merges: expected list, got int"),
        ({"unk_token": "?"}, InvalidModel, r"an unk_token of the vocabulary, got '\?'"),
        ({"dropout": 0.1}, UnsupportedModel, "dropout: expected none, got '0.1'"),
        ({"end_of_word_suffix": "</w>"}, UnsupportedModel, "end_of_word_suffix: expected none, got '</w>'"),
        ({"surprise": 1}, InvalidModel, "no further field, got surprise"),
        ({"type": "WordPiece", "merges": None}, InvalidModel, "an unk_token, ## and words up to 1000 characters"),
        (
            {"type": "WordPiece", "merges": None, "unk_token": "a", "max_input_chars_per_word": 10**9},
            InvalidModel,
            "words up to 1000 characters",
        ),
    ],
)
def test_models_that_are_refused(changes: dict[str, Any], error: type[InvalidModel], named: str) -> None:
    with pytest.raises(error, match=named):
        _with_model(**changes)


def _untyped(**model: Any) -> Fields:
    return Fields({"model": model}, "tokenizer.json")


def test_old_files_without_a_type() -> None:
    words = {"continuing_subword_prefix": "##", "max_input_chars_per_word": 100}
    assert read_model(_untyped(vocab={"[UNK]": 0, "a": 1}, unk_token="[UNK]", **words)).is_wordpiece
    assert not read_model(_untyped(vocab={"a": 1}, merges=[])).is_wordpiece


@pytest.mark.parametrize(
    ("vocab", "kind"), [({"<unk>": 0, "a": 1}, "WordLevel"), ([["<unk>", 0.0], ["a", -1.5]], "Unigram")]
)
def test_old_files_of_other_kinds_are_refused_by_name(vocab: object, kind: str) -> None:
    with pytest.raises(UnsupportedModel, match=f"model: expected one of BPE, WordPiece, got '{kind}'"):
        read_model(_untyped(vocab=vocab, unk_token="<unk>"))


def test_added_tokens_of_a_file() -> None:
    added = read_added(Fields(tiny_file(), "tokenizer.json"))
    assert (added.control, added.user_defined) == ({"<s>": 0, "<eot>": 9}, {"<tool>": 8})
    assert added.user_defined_json[0]["special"] is False
