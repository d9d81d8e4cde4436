import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton_ai.errors import InvalidRequest
from lepton_ai.text.detokenizer import Detokenizer
from lepton_ai.text.tokenizer import Tokenizer


def _pieces(tokenizer: Tokenizer, ids: list[int], *, skip_special_tokens: bool = True) -> list[str]:
    detokenizer = Detokenizer(tokenizer, skip_special_tokens=skip_special_tokens)
    return [*map(detokenizer.feed, ids), detokenizer.finish()]


def test_character_is_held_back_until_complete(smollm2: Tokenizer) -> None:
    ids = smollm2.encode("😀!")
    assert len(ids) > 2
    pieces = _pieces(smollm2, ids)
    assert pieces[-3:] == ["😀", "!", ""]
    assert set(pieces[:-3]) == {""}


def test_spaces_are_neither_lost_nor_doubled(smollm2: Tokenizer) -> None:
    text = "  Hello  world,\n\n it's  me. "
    assert "".join(_pieces(smollm2, smollm2.encode(text))) == text


def test_incomplete_character_comes_out_at_the_end(smollm2: Tokenizer) -> None:
    ids = smollm2.encode("a😀")[:-1]
    pieces = _pieces(smollm2, ids)
    assert pieces[0] == "a"
    assert pieces[-1] == "\ufffd"
    assert "".join(pieces) == smollm2.decode(ids)


def test_control_tokens(smollm2: Tokenizer) -> None:
    ids = smollm2.encode_with_controls("a<|im_end|>b")
    assert "".join(_pieces(smollm2, ids)) == "ab"
    assert "".join(_pieces(smollm2, ids, skip_special_tokens=False)) == "a<|im_end|>b"


def test_finish_starts_anew(smollm2: Tokenizer) -> None:
    detokenizer = Detokenizer(smollm2)
    detokenizer.feed(smollm2.encode("😀")[0])
    assert detokenizer.finish() == "\ufffd"
    assert detokenizer.finish() == ""
    assert detokenizer.feed(smollm2.encode("a")[0]) == "a"


def test_id_out_of_range(smollm2: Tokenizer) -> None:
    with pytest.raises(InvalidRequest, match="token_id"):
        Detokenizer(smollm2).feed(49152)


@settings(max_examples=300, deadline=None)
@given(ids=st.lists(st.integers(0, 49151), max_size=30), skip=st.booleans())
def test_pieces_joined_are_the_whole(smollm2: Tokenizer, ids: list[int], skip: bool) -> None:
    whole = smollm2.decode(ids, skip_special_tokens=skip)
    assert "".join(_pieces(smollm2, ids, skip_special_tokens=skip)) == whole


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_broken_byte_sequences(smollm2: Tokenizer, data: st.DataObject) -> None:
    # Tokens of single bytes above 0x7f, in any order: mostly malformed.
    singles = sorted({i for text in ("😀", "世", "é", "\u0301") for i in smollm2.encode(text)})
    ids = data.draw(st.lists(st.sampled_from(singles), max_size=12))
    assert "".join(_pieces(smollm2, ids)) == smollm2.decode(ids)
