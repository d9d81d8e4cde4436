import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton_ai.errors import InvalidRequest
from lepton_ai.text.segments import Segment
from lepton_ai.text.splitter import WholeSplitter
from lepton_ai.text.tokenizer import Tokenizer

from .conftest import tiny_metadata

IM_START, IM_END = 1, 2


def test_text_never_becomes_a_control_token(smollm2: Tokenizer) -> None:
    for text in ("<|im_end|>", "a<|im_start|>system\n", *smollm2.control_tokens):
        ids = smollm2.encode(text)
        assert not any(map(smollm2.is_control, ids))
        assert smollm2.decode(ids) == text


def test_controls_of_a_trusted_text(smollm2: Tokenizer) -> None:
    ids = smollm2.encode_with_controls("<|im_start|>user\nhi<|im_end|>\n")
    assert [i for i in ids if smollm2.is_control(i)] == [IM_START, IM_END]
    assert smollm2.decode(ids) == "user\nhi\n"
    assert smollm2.decode(ids, skip_special_tokens=False) == "<|im_start|>user\nhi<|im_end|>\n"


def test_neighbouring_texts_are_encoded_as_one(smollm2: Tokenizer) -> None:
    segments = [Segment("<|im_start|>", is_control=True), Segment("us"), Segment("er\nhel"), Segment("lo")]
    assert smollm2.encode_segments(segments) == [IM_START, *smollm2.encode("user\nhello")]


def test_control_text_between_segments_stays_text(smollm2: Tokenizer) -> None:
    ids = smollm2.encode_segments([Segment("<|im_"), Segment("end|>")])
    assert not any(map(smollm2.is_control, ids))


def test_unknown_control_segment_is_refused(smollm2: Tokenizer) -> None:
    with pytest.raises(InvalidRequest, match=r"'<\|nope\|>' is no control token"):
        smollm2.encode_segments([Segment("<|nope|>", is_control=True)])


@pytest.mark.parametrize(
    ("add_bos", "add_eos", "expected"),
    [(False, False, [4]), (True, False, [0, 4]), (False, True, [4, 6]), (True, True, [0, 4, 6])],
)
def test_bos_and_eos_as_the_model_asks(add_bos: bool, add_eos: bool, expected: list[int]) -> None:
    tokenizer = Tokenizer.from_metadata(tiny_metadata(add_bos_token=add_bos, add_eos_token=add_eos))
    assert tokenizer.encode("ab") == expected
    assert tokenizer.encode("ab", add_special_tokens=False) == [4]


def test_bos_is_never_doubled() -> None:
    tokenizer = Tokenizer.from_metadata(tiny_metadata(add_bos_token=True, add_eos_token=True))
    assert tokenizer.encode_with_controls("<s>ab</s>") == [0, 4, 6]
    assert tokenizer.encode_segments([Segment("<s>", is_control=True), Segment("ab")]) == [0, 4, 6]
    assert tokenizer.encode("") == [0, 6]


def test_user_defined_tokens_are_found_in_text() -> None:
    tokenizer = Tokenizer.from_metadata(tiny_metadata())
    assert tokenizer.encode("ab<think>c") == [4, 7, 3]
    assert tokenizer.decode([4, 7, 3]) == "ab<think>c"
    assert not tokenizer.is_control(7)


def test_byte_without_a_token_is_left_out_and_keeps_its_neighbours_apart() -> None:
    tokenizer = Tokenizer.from_metadata(tiny_metadata())
    assert tokenizer.encode("axb") == [1, 2]
    assert tokenizer.encode("é") == []


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"\xff", "\ufffd"),
        (b"a\xe2\x82b", "a\ufffd\ufffdb"),
        (b"\xf0\x9f\x98", "\ufffd\ufffd\ufffd"),
        (b"\xed\xa0\x80", "\ufffd\ufffd\ufffd"),
        (b"\xc0\x80", "\ufffd\ufffd"),
        (b"ok\x00", "ok\x00"),
        ("é世😀".encode(), "é世😀"),
    ],
)
def test_malformed_bytes_become_replacement_characters(smollm2: Tokenizer, raw: bytes, text: str) -> None:
    assert smollm2.encode(raw) == smollm2.encode(text)
    assert smollm2.decode(smollm2.encode(raw)) == text


def test_lone_surrogates_become_replacement_characters(smollm2: Tokenizer) -> None:
    assert smollm2.encode("a\ud83d!\udcff") == smollm2.encode("a\ufffd!\ufffd")
    assert smollm2.encode_segments([Segment("a\ud83d")]) == smollm2.encode("a\ufffd")


def test_wrong_types_and_ids_are_refused(smollm2: Tokenizer) -> None:
    with pytest.raises(InvalidRequest, match="text: expected str or bytes, got int"):
        smollm2.encode(3)  # type: ignore[arg-type]
    for token_id in (-1, 49152):
        with pytest.raises(InvalidRequest, match="token_id: expected 0 to 49151"):
            smollm2.token_bytes(token_id)


def test_unused_id_has_no_text() -> None:
    tokenizer = Tokenizer.from_metadata(tiny_metadata())
    assert tokenizer.token_bytes(8) == b""
    assert tokenizer.decode([1, 8, 2]) == "ab"


def test_token_bytes(smollm2: Tokenizer) -> None:
    assert smollm2.token_bytes(IM_END) == b"<|im_end|>"
    (token_id,) = smollm2.encode(" the")
    assert smollm2.token_bytes(token_id) == b" the"
    assert b"".join(map(smollm2.token_bytes, smollm2.encode("世"))) == "世".encode()


@settings(max_examples=200, deadline=None)
@given(text=st.text(alphabet=st.characters(codec="utf-8", exclude_categories=("Cc", "Cn", "Co")), max_size=60))
def test_decoding_gives_the_text_back(smollm2: Tokenizer, text: str) -> None:
    assert smollm2.decode(smollm2.encode(text)) == text


def test_one_long_word_is_not_quadratic(smollm2: Tokenizer) -> None:
    assert smollm2.decode(smollm2.encode("a" * 300_000)) == "a" * 300_000


@pytest.mark.parametrize("text", ["word and word, ", "12345 ", "日本語", "  \n\n", "<|im_end|>"])
def test_long_texts_take_another_way_to_the_same_ids(smollm2: Tokenizer, text: str) -> None:
    long = text * 1000
    assert isinstance(smollm2._splitter, WholeSplitter)
    library = smollm2._splitter._library
    assert smollm2.encode(long) == library.encode(long, add_special_tokens=False).ids


def test_import_does_not_load_the_bpe_library() -> None:
    code = "import sys, lepton_ai.text.tokenizer; sys.exit('tokenizers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
