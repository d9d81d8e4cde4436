"""Parts of a ``tokenizer.json``: those that are run, and every other kind, refused by its name."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from lepton_ai.errors import InvalidModel, UnsupportedModel
from lepton_ai.text.hf_components import check_normalizer, check_pre_tokenizer, read_spelling
from lepton_ai.text.hf_model import read_model
from lepton_ai.text.hf_special import read_frame
from lepton_ai.text.pretokenizer import PUBLISHED_PATTERNS
from lepton_ai.text.spelling import Spelling
from lepton_ai.text.untrusted_json import Fields


def _replace(content: str, **pattern: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def _sequence(name: str, *steps: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", name: list(steps)}


def _normalizer(value: object) -> object:
    return check_normalizer(Fields({"normalizer": value}, "tokenizer.json"))


def _pre_tokenizer(value: object) -> object:
    return check_pre_tokenizer(Fields({"pre_tokenizer": value}, "tokenizer.json"))


def test_known_parts_stay_as_they_are() -> None:
    nfc, replace = {"type": "NFC"}, _replace("▁", String=" ")
    assert _normalizer(None) is None
    assert _normalizer(nfc) == nfc
    nested = _sequence("normalizers", nfc, _sequence("normalizers", replace))
    assert _normalizer(nested) == _sequence("normalizers", nfc, replace)
    for pattern in PUBLISHED_PATTERNS:
        split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
        assert _pre_tokenizer(split) == split


@pytest.mark.parametrize(
    ("value", "error", "named"),
    [
        ({"type": "Precompiled"}, UnsupportedModel, "normalizer: expected one of BertNormalizer, .* got 'Precompiled'"),
        ({"type": "NFC", "extra": 1}, InvalidModel, "normalizer: expected no further field, got extra"),
        ({"type": "Strip", "strip_left": 1}, InvalidModel, "strip_left: expected bool, got int"),
        (_replace("x", Regex="(a+)+b"), UnsupportedModel, r"published regular expression, got '\(a\+\)\+b'"),
        (_replace("x", String=""), InvalidModel, "a string to find, got an empty one"),
        (_replace("x", String="a", Regex="b"), UnsupportedModel, "published regular expression"),
        (_replace("x" * 65, String="a"), InvalidModel, "content of up to 64 characters, got 65"),
        ({"type": "Replace", "content": "x"}, InvalidModel, "a Replace with pattern and content"),
        (
            _sequence("normalizers", *[_replace("aaa", String="a")] * 4),
            InvalidModel,
            "up to 64 times longer, got 81 times",
        ),
        (_sequence("normalizers", *[{"type": "NFC"}] * 17), InvalidModel, "up to 16 steps, got more"),
        ("NFC", InvalidModel, "normalizer: expected dict, got str"),
    ],
)
def test_normalizers_that_are_refused(value: object, error: type[InvalidModel], named: str) -> None:
    with pytest.raises(error, match=named):
        _normalizer(value)


def test_sequences_without_end_are_refused() -> None:
    value: dict[str, Any] = {"type": "NFC"}
    for _ in range(50):
        value = _sequence("normalizers", value, value)
    with pytest.raises(InvalidModel, match="up to 16 steps"):
        _normalizer(value)


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ({"type": "UnicodeScripts"}, "expected one of BertPreTokenizer, .* got 'UnicodeScripts'"),
        (
            {"type": "Metaspace", "prepend_scheme": "first"},
            "prepend_scheme: expected one of always, never, got 'first'",
        ),
        ({"type": "Metaspace", "replacement": "_"}, "replacement: expected one of ▁, got '_'"),
        ({"type": "Punctuation", "behavior": "Eaten"}, "behavior: expected one of Removed"),
        (
            {"type": "Split", "pattern": {"Regex": "(.*)*$"}, "behavior": "Isolated", "invert": False},
            "published regular expression",
        ),
    ],
)
def test_pre_tokenizers_that_are_refused(value: object, named: str) -> None:
    with pytest.raises(UnsupportedModel, match=named):
        _pre_tokenizer(value)


_STRIP = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
_FALLBACK = (_replace(" ", String="▁"), {"type": "ByteFallback"}, {"type": "Fuse"})


@pytest.mark.parametrize(
    ("decoder", "expected"),
    [
        ({"type": "ByteLevel"}, (Spelling.BYTE_LEVEL, False)),
        ({"type": "WordPiece", "prefix": "##", "cleanup": True}, (Spelling.WORDPIECE, True)),
        ({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never"}, (Spelling.SENTENCEPIECE, False)),
        (_sequence("decoders", *_FALLBACK), (Spelling.SENTENCEPIECE, False)),
        (_sequence("decoders", *_FALLBACK, _STRIP), (Spelling.SENTENCEPIECE, True)),
    ],
)
def test_spelling(decoder: object, expected: tuple[Spelling, bool]) -> None:
    assert read_spelling(Fields({"decoder": decoder}, "tokenizer.json")) == expected


@pytest.mark.parametrize(
    ("decoder", "named"),
    [
        (None, "decoder: expected ByteLevel, .* got none"),
        ({"type": "CTC"}, "got CTC"),
        ({"type": "WordPiece", "prefix": "@@"}, "prefix: expected ##"),
        (_sequence("decoders", *_FALLBACK, {**_STRIP, "start": 2}), "expected one space off the beginning"),
        (_sequence("decoders", _replace("_", String="▁"), *_FALLBACK[1:]), "replaced by a space"),
    ],
)
def test_decoders_that_are_refused(decoder: object, named: str) -> None:
    with pytest.raises(UnsupportedModel, match=named):
        read_spelling(Fields({"decoder": decoder}, "tokenizer.json"))


def _kinds(module: ModuleType, *run: str) -> list[str]:
    """The kinds of a part that the library has and we do not run. Its base classes bear the part's name."""
    bases = {"Model", "Normalizer", "PreTokenizer", "PostProcessor", "Decoder", "DecodeStream", "Sequence"}
    classes = {name for name, value in vars(module).items() if isinstance(value, type)}
    assert classes >= set(run)
    return sorted(classes - bases - set(run))


_NORMALIZERS = ("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Strip", "BertNormalizer", "Prepend")
_PRE_TOKENIZERS = ("BertPreTokenizer", "Whitespace", "WhitespaceSplit", "ByteLevel", "Digits", "Punctuation", "Split")
_PROCESSORS = ("BertProcessing", "ByteLevel", "RobertaProcessing", "TemplateProcessing")


@pytest.mark.parametrize(
    ("part", "kind"),
    [
        *(("model", kind) for kind in _kinds(models, "BPE", "WordPiece")),
        *(("normalizer", kind) for kind in [*_kinds(normalizers, *_NORMALIZERS, "Replace"), "Nmt2"]),
        *(("pre_tokenizer", kind) for kind in _kinds(pre_tokenizers, *_PRE_TOKENIZERS, "Metaspace")),
        *(("post_processor", kind) for kind in [*_kinds(processors, *_PROCESSORS), "Template2"]),
        *(("decoder", kind) for kind in _kinds(decoders, "ByteLevel", "WordPiece", "Metaspace")),
    ],
)
def test_every_other_kind_is_refused_by_name(part: str, kind: str) -> None:
    file = Fields({part: {"type": kind, "vocab": {"a": 0}}}, "tokenizer.json")
    readers: list[Callable[[Fields], object]] = [read_model, check_normalizer, check_pre_tokenizer, read_spelling]
    readers.append(lambda f: read_frame(f, frozenset()))
    parts = ("model", "normalizer", "pre_tokenizer", "decoder", "post_processor")
    with pytest.raises(UnsupportedModel, match=rf"{part}: expected .*{kind}"):
        dict(zip(parts, readers, strict=True))[part](file)
