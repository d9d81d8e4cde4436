"""Pieces with scores, against the algorithm as SentencePiece states it, on a small vocabulary."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton_ai.errors import InvalidModel, UnsupportedModel
from lepton_ai.text.detokenizer import Detokenizer
from lepton_ai.text.segments import Segment
from lepton_ai.text.sentencepiece import merges_of_scores
from lepton_ai.text.tokenizer import Tokenizer

from .conftest import FakeMetadata

CONTROL = ["<pad>", "<s>", "</s>", "<unk>"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
USER_DEFINED = ["<b>", "\n\n"]
# In the order of their scores. "sx" is made of "s" and "x" but is better than "<s", so "<sx" is reached one way only.
PIECES = [
    *("▁a", "ab", "aa", "▁▁", "ba", "sx", "<s", "s>", "<sx", "aba", "aab", "▁ab", "▁aba", "aaaa", "aaa", "bab", "éa"),
    *("▁a▁", "▁▁▁▁", "abab", "bb", "▁", "a", "b", "é", "<", "s", ">", "x", "/", "世"),
]
TEXTS = CONTROL + BYTES + USER_DEFINED + PIECES
ID = {text: token_id for token_id, text in enumerate(TEXTS)}


def metadata(**changes: Any) -> FakeMetadata:
    """A vocabulary of ``PIECES``, all bytes, two user-defined tokens and four control tokens."""
    values: dict[str, Any] = {
        "model": "llama",
        "tokens": TEXTS,
        "token_type": [3, 3, 3, 2] + [6] * 256 + [4] * 2 + [1] * len(PIECES),
        "scores": [0.0] * 262 + [-float(rank) for rank in range(len(PIECES))],
        "bos_token_id": 1,
        "eos_token_id": 2,
        "unknown_token_id": 3,
        **changes,
    }
    return FakeMetadata({f"tokenizer.ggml.{name}": value for name, value in values.items() if value is not None})


@pytest.fixture(scope="module")
def prefixed() -> Tokenizer:
    return Tokenizer.from_metadata(metadata())


@pytest.fixture(scope="module")
def plain() -> Tokenizer:
    return Tokenizer.from_metadata(metadata(add_space_prefix=False))


def merged(text: str) -> list[int]:
    """The ids of a text without user-defined tokens: the best pair first, the leftmost among equals."""
    symbols = list(text.replace(" ", "▁"))
    score = {piece: -rank for rank, piece in enumerate(PIECES)}
    while True:
        neighbours = enumerate(itertools.pairwise(symbols))
        pairs = [(score[a + b], -i) for i, (a, b) in neighbours if a + b in score]
        if not pairs:
            break
        at = -max(pairs)[1]
        symbols[at : at + 2] = [symbols[at] + symbols[at + 1]]
    ids: list[int] = []
    for symbol in symbols:
        ids += [ID[symbol]] if symbol in score else [ID[f"<0x{byte:02X}>"] for byte in symbol.encode("utf-8")]
    return ids


@settings(max_examples=1000, deadline=None)
@given(text=st.text(alphabet="aab  és<>x/世😀", max_size=40).filter(lambda text: "<b>" not in text))
def test_ids_are_those_of_the_algorithm(plain: Tokenizer, prefixed: Tokenizer, text: str) -> None:
    assert plain.encode(text, add_special_tokens=False) == merged(text)
    assert prefixed.encode(text, add_special_tokens=False) == (merged(" " + text) if text else [])


@settings(max_examples=500, deadline=None)
@given(parts=st.lists(st.sampled_from([*"ab  és<>\n世😀\u0301", "<b>", "\n\n", "</s>"]), max_size=30))
def test_decoding_gives_the_text_back(plain: Tokenizer, prefixed: Tokenizer, parts: list[str]) -> None:
    text = "".join(parts)
    for tokenizer in (plain, prefixed):
        assert tokenizer.decode(tokenizer.encode(text)) == text


@settings(max_examples=500, deadline=None)
@given(ids=st.lists(st.integers(0, len(TEXTS) - 1), max_size=20), skip=st.booleans())
def test_pieces_joined_are_the_whole(prefixed: Tokenizer, ids: list[int], skip: bool) -> None:
    detokenizer = Detokenizer(prefixed, skip_special_tokens=skip)
    pieces = [*map(detokenizer.feed, ids), detokenizer.finish()]
    assert "".join(pieces) == prefixed.decode(ids, skip_special_tokens=skip)


def test_control_tokens_and_bytes_are_not_reached_by_text(plain: Tokenizer) -> None:
    for text in (*CONTROL, "<s>ab</s>", "<sx>"):
        assert not any(map(plain.is_control, plain.encode(text, add_special_tokens=False)))
        assert plain.decode(plain.encode(text)) == text
    assert ID["<0x61>"] not in plain.encode("<0x61>")


def test_bos_is_added_unless_the_file_says_no(plain: Tokenizer) -> None:
    assert plain.encode("ab") == [1, ID["ab"]]
    assert plain.encode_with_controls("<s>ab") == [1, ID["ab"]]
    both = Tokenizer.from_metadata(metadata(add_bos_token=False, add_eos_token=True))
    assert both.encode("a") == [ID["▁a"], 2]


def test_the_space_before_each_text_is_left_out_again(prefixed: Tokenizer) -> None:
    segments = [Segment("ab"), Segment("</s>", is_control=True), Segment(" a")]
    ids = prefixed.encode_segments(segments)
    assert ids == [1, ID["▁ab"], 2, *merged("  a")]
    assert prefixed.decode(ids) == "ab a"
    assert prefixed.decode(ids, skip_special_tokens=False) == "<s>ab</s> a"


def test_a_continuation_keeps_its_space(prefixed: Tokenizer) -> None:
    detokenizer = Detokenizer(prefixed, is_continuation=True)
    assert [detokenizer.feed(ID["▁a"]), detokenizer.finish(), detokenizer.feed(ID["▁a"])] == [" a", "", " a"]
    assert Detokenizer(prefixed).feed(ID["▁a"]) == "a"


def test_a_character_of_byte_pieces_is_held_back(plain: Tokenizer) -> None:
    detokenizer = Detokenizer(plain)
    ids = plain.encode("😀a", add_special_tokens=False)
    assert ids == [ID["<0xF0>"], ID["<0x9F>"], ID["<0x98>"], ID["<0x80>"], ID["a"]]
    assert [*map(detokenizer.feed, ids)] == ["", "", "", "😀", "a"]


def test_one_merge_a_piece() -> None:
    vocab = {"a": 0, "b": 1, "ab": 2, "ba": 3, "aba": 4, "abc": 5}
    # "aba" is "ab a", as "ab" is better than "ba"; "abc" cannot be made without "c".
    assert merges_of_scores(vocab, [-9, -9, 0, -1, -2, -3]) == ["a b", "b a", "ab a"]
    assert merges_of_scores(vocab, [-9, -9, -1, 0, -2, -3]) == ["b a", "a b", "a ba"]


def test_too_many_long_pieces_are_refused() -> None:
    vocab = {f"{number:0500}": number for number in range(1100)}
    with pytest.raises(InvalidModel, match="too many long ones"):
        merges_of_scores(vocab, [0.0] * len(vocab))


def test_one_long_word_is_not_quadratic(plain: Tokenizer) -> None:
    assert plain.decode(plain.encode("ab" * 100_000)) == "ab" * 100_000


@pytest.mark.parametrize(
    ("changes", "error", "named"),
    [
        ({"scores": [0.0]}, InvalidModel, f"expected {len(TEXTS)} scores, got 1"),
        ({"token_type": [3] * 4 + [1] * (len(TEXTS) - 4)}, UnsupportedModel, "256 byte pieces .* got 0 byte tokens"),
        ({"token_type": [3] * 4 + [6] * 255 + [1] * (len(TEXTS) - 259)}, UnsupportedModel, "got 255 byte tokens"),
        ({"token_type": [6] + [3] * 3 + [6] * 256 + [1] * (len(TEXTS) - 260)}, UnsupportedModel, "got 257 byte"),
        ({"tokens": [*TEXTS[:-1], "x" * 600]}, InvalidModel, "pieces up to 512 characters"),
        ({"tokens": [*TEXTS[:-1], "a b"]}, InvalidModel, "without a space, got 'a b'"),
        ({"remove_extra_whitespaces": True}, UnsupportedModel, "remove_extra_whitespaces: expected false"),
        ({"precompiled_charsmap": [1]}, UnsupportedModel, "precompiled_charsmap: expected none"),
    ],
)
def test_what_is_malformed_or_not_run_is_refused(
    changes: dict[str, Any], error: type[InvalidModel], named: str
) -> None:
    with pytest.raises(error, match=named):
        Tokenizer.from_metadata(metadata(**changes))
