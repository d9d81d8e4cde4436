"""Added tokens and templates of hostile ``tokenizer.json`` files."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lepton_ai.errors import InvalidModel, UnsupportedModel
from lepton_ai.text.folder import vocabulary_of
from lepton_ai.text.vocabulary import Frame, Vocabulary

from .hf_folders import tiny_file


def vocabulary(**changes: Any) -> Vocabulary:
    """The vocabulary of ``tiny_file`` with changes."""
    return vocabulary_of({"tokenizer.json": json.dumps(tiny_file(**changes)).encode()})


def _token(text: str, kind: int = 0) -> dict[str, Any]:
    return {"SpecialToken": {"id": text, "type_id": kind}}


def _text(name: str, kind: int = 0) -> dict[str, Any]:
    return {"Sequence": {"id": name, "type_id": kind}}


def _template(single: list[Any], pair: list[Any] | None = None) -> dict[str, Any]:
    ids = {text: {"id": text, "ids": [i], "tokens": [text]} for text, i in (("<s>", 0), ("<eot>", 9), ("a", 1))}
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": ids}


A, B, S, E = _text("A"), _text("B", 1), _token("<s>"), _token("<eot>")


@pytest.mark.parametrize(
    ("post", "frame"),
    [
        (None, Frame()),
        ({"type": "ByteLevel"}, Frame()),
        (_template([S, A, E]), Frame((0,), (9,))),
        (_template([A], [A, B]), Frame(middle=(), second_type=1)),
        (
            _template([S, A], [S, A, _token("<eot>"), _token("<s>", 1), B, _token("<eot>", 1)]),
            Frame((0,), (), (0,), (9,), (0,), (9,), 1),
        ),
        (_template([S, A], [A, E, _text("B")]), Frame((0,), (), (), (9,))),
        (
            {"type": "BertProcessing", "sep": ["<eot>", 9], "cls": ["<s>", 0]},
            Frame((0,), (9,), (0,), (9,), (), (9,), 1),
        ),
        (
            {"type": "RobertaProcessing", "sep": ["<eot>", 9], "cls": ["<s>", 0], "trim_offsets": True},
            Frame((0,), (9,), (0,), (9, 9), (), (9,), 0),
        ),
        ({"type": "Sequence", "processors": [{"type": "ByteLevel"}, _template([S, A])]}, Frame((0,))),
    ],
)
def test_frames(post: object, frame: Frame) -> None:
    assert vocabulary(post_processor=post).special.frame == frame


@pytest.mark.parametrize(
    ("post", "error", "named"),
    [
        ({"type": "Other"}, UnsupportedModel, "expected one of BertProcessing, .* got 'Other'"),
        (
            {"type": "BertProcessing", "sep": ["a", 1], "cls": ["<s>", 0]},
            InvalidModel,
            r"control tokens, got the ids \{1",
        ),
        ({"type": "BertProcessing", "sep": 9, "cls": ["<s>", 0]}, InvalidModel, "sep: expected list, got int"),
        (_template([S, A, _token("a")]), InvalidModel, r"expected control tokens, got the ids \{1\}"),
        (_template([S, A, _token("<nope>")]), InvalidModel, "one of the template's special_tokens, got '<nope>'"),
        (_template([S, A, A]), UnsupportedModel, "single: expected one text A"),
        (_template([S]), UnsupportedModel, "single: expected one text A"),
        (_template([_token("<s>", 1), A]), UnsupportedModel, "single: expected one text A, all of type 0"),
        (_template([S] * 9 + [A]), InvalidModel, "up to 8 tokens at a place"),
        (_template([A], [B, A]), UnsupportedModel, "pair: expected the texts A and B"),
        (_template([A], [_token("<s>", 2), A, B]), UnsupportedModel, "pair: expected type 0, then one further type"),
        (_template([A], [A, _text("B", 7)]), UnsupportedModel, "pair: expected type 0"),
        (_template([A], [A, _token("<s>", 1), _token("<s>"), B]), UnsupportedModel, "pair: expected type 0"),
        ({"type": "Sequence", "processors": [_template([A, E]), _template([S, A])]}, UnsupportedModel, "one template"),
    ],
)
def test_post_processors_that_are_refused(post: object, error: type[InvalidModel], named: str) -> None:
    with pytest.raises(error, match=named):
        vocabulary(post_processor=post)


@pytest.mark.parametrize(
    ("entries", "named"),
    [
        ([{"content": "", "id": 0}], "1 to 512 characters"),
        ([{"content": "x" * 513, "id": 0}], "1 to 512 characters"),
        ([{"content": "x", "id": 1 << 30}], "an id below 2097152"),
        ([{"content": "x", "id": True}], "id: expected int, got bool"),
        ([{"content": "x", "id": 10}, {"content": "x", "id": 11}], "distinct tokens, got 'x' or its id twice"),
        ([{"content": "x", "id": 10}, {"content": "y", "id": 10}], "distinct tokens, got 'y' or its id twice"),
        ([{"content": "x", "id": 1}], "ids that the vocabulary gives them, or new ones"),
        ([{"content": "a", "id": 2, "special": True}], "ids that the vocabulary gives them, or new ones"),
        ([{"content": "x", "id": 10, "special": 1}], "special: expected bool, got int"),
        ([{"content": "x", "id": 10, "wat": 1}], "no further field, got wat"),
        ([3], "added_tokens 0: expected dict, got int"),
    ],
)
def test_added_tokens_that_are_refused(entries: list[Any], named: str) -> None:
    with pytest.raises(InvalidModel, match=named):
        vocabulary(added_tokens=entries)


def test_an_unknown_part_is_refused() -> None:
    with pytest.raises(InvalidModel, match=r"tokenizer\.json: expected no further field, got plugins"):
        vocabulary(plugins=[1])
