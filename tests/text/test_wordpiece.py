"""WordPiece out of GGUF metadata, and what stands between its words."""

from __future__ import annotations

from typing import Any

import pytest

from lepton_ai.errors import InvalidModel, InvalidRequest, TruncationWarning
from lepton_ai.text.detokenizer import Detokenizer
from lepton_ai.text.tokenizer import EncodedPair, Tokenizer

from .conftest import FakeMetadata

TEXTS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "▁un", "able", "▁[", "▁]", "▁cls", "▁a", "##", "▁able"]


def metadata(**changes: Any) -> FakeMetadata:
    """Pieces of ``unable`` and the brackets of control tokens, as llama.cpp's converter writes them."""
    values: dict[str, Any] = {
        "model": "bert",
        "tokens": TEXTS,
        "token_type": [3, 2, 3, 3, *[1] * (len(TEXTS) - 4)],
        "bos_token_id": 2,
        "seperator_token_id": 3,
        "unknown_token_id": 1,
        **changes,
    }
    return FakeMetadata({f"tokenizer.ggml.{name}": value for name, value in values.items() if value is not None})


@pytest.fixture(scope="module")
def bert() -> Tokenizer:
    return Tokenizer.from_metadata(metadata())


def test_longest_pieces_first(bert: Tokenizer) -> None:
    assert bert.encode("Unable able\tÁ") == [2, 4, 5, 11, 9, 3]
    assert bert.encode("unabled", add_special_tokens=False) == [1]


def test_text_is_no_control_token(bert: Tokenizer) -> None:
    assert bert.encode("[CLS]", add_special_tokens=False) == [6, 8, 7]
    assert bert.encode("[UNK] a", add_special_tokens=False) == [6, 1, 7, 9]
    assert bert.encode_with_controls("[CLS]a[SEP]") == [2, 9, 3]


def test_special_tokens_are_found_by_their_text_where_no_key_names_them() -> None:
    named = Tokenizer.from_metadata(metadata(bos_token_id=None, seperator_token_id=None, unknown_token_id=None))
    assert named.encode("a b") == [2, 9, 1, 3]
    assert (named.role_ids["cls"], named.role_ids["sep"], named.role_ids["unk"]) == (2, 3, 1)


def test_a_vocabulary_with_capitals_is_cased() -> None:
    texts = [*TEXTS[:-1], "▁Able"]
    cased = Tokenizer.from_metadata(metadata(tokens=texts))
    assert cased.encode("Able able", add_special_tokens=False) == [11, 1]


def test_spaces_between_words(bert: Tokenizer) -> None:
    ids = bert.encode("unable [a")
    assert bert.decode(ids) == "unable [ a"
    assert bert.decode(ids, skip_special_tokens=False) == "[CLS] unable [ a [SEP]"
    detokenizer = Detokenizer(bert)
    assert [*map(detokenizer.feed, ids)] == ["", "un", "able", " [", " a", ""]


def test_pair(bert: Tokenizer) -> None:
    assert bert.encode_pair("a", "unable") == EncodedPair([2, 9, 3, 4, 5, 3], [0, 0, 0, 1, 1, 1])
    assert bert.encode_pair("", "") == EncodedPair([2, 3, 3], [0, 0, 1])


@pytest.mark.parametrize(
    ("lengths", "max_length", "expected"),
    [((10, 3), 11, (5, 3)), ((10, 9), 10, (4, 3)), ((3, 10), 11, (3, 5)), ((10, 6), 12, (5, 4)), ((2, 2), 3, (0, 0))],
)
def test_a_pair_is_cut_at_its_longer_text(
    bert: Tokenizer, lengths: tuple[int, int], max_length: int, expected: tuple[int, int]
) -> None:
    first, second = ("a " * length for length in lengths)
    with pytest.warns(TruncationWarning, match=f"{sum(lengths) - max_length + 3} of {sum(lengths)} tokens were cut"):
        pair = bert.encode_pair(first, second, max_length=max_length)
    assert pair.ids == [2, *[9] * expected[0], 3, *[9] * expected[1], 3]
    assert pair.token_type_ids == [0] * (expected[0] + 2) + [1] * (expected[1] + 1)


def test_a_text_is_cut_before_its_closing_token(bert: Tokenizer) -> None:
    with pytest.warns(TruncationWarning, match="text: 3 of 5 tokens were cut to keep max_length 4"):
        assert bert.encode("a a a a a", max_length=4) == [2, 9, 9, 3]
    assert bert.encode("a a", max_length=4) == [2, 9, 9, 3]
    with pytest.warns(TruncationWarning):
        assert bert.encode("a a", add_special_tokens=False, max_length=0) == []


def test_no_room_for_the_control_tokens(bert: Tokenizer) -> None:
    with pytest.raises(InvalidRequest, match="max_length: expected room for the 2 control tokens, got 1"):
        bert.encode("a", max_length=1)
    with pytest.raises(InvalidRequest, match="max_length: expected room for the 3 control tokens, got 2"):
        bert.encode_pair("a", "a", max_length=2)


def test_a_model_without_pairs(smollm2: Tokenizer) -> None:
    with pytest.raises(InvalidRequest, match="second: expected a model that takes pairs"):
        smollm2.encode_pair("a", "b")


def test_missing_control_tokens_are_refused_by_role() -> None:
    changes = {"token_type": [1] * len(TEXTS), "bos_token_id": None}
    with pytest.raises(InvalidModel, match="expected a cls token, got none"):
        Tokenizer.from_metadata(metadata(**changes))


def test_pieces_that_are_one_without_their_marks_are_refused() -> None:
    with pytest.raises(InvalidModel, match="distinct pieces"):
        Tokenizer.from_metadata(metadata(tokens=[*TEXTS[:-1], "▁##able"]))
