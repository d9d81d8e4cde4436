import pytest

from lepton_ai.text.spelling import Joiner, Spelling, byte_of_piece, speller


@pytest.mark.parametrize(
    ("spelling", "entry", "data"),
    [
        (Spelling.BYTE_LEVEL, "Ġhi", b" hi"),
        (Spelling.SENTENCEPIECE, "▁hi▁", b" hi "),
        (Spelling.SENTENCEPIECE, "<0xE2>", b"\xe2"),
        (Spelling.SENTENCEPIECE, "<0xE2>x", b"<0xE2>x"),
        (Spelling.WORDPIECE, "hi", b" hi"),
        (Spelling.WORDPIECE, "##hi", b"hi"),
        (Spelling.WORDPIECE, "##", b" ##"),
        (Spelling.WORDPIECE, "▁", " ▁".encode()),
    ],
)
def test_bytes_of_entries(spelling: Spelling, entry: str, data: bytes) -> None:
    assert speller(spelling)(entry) == data


def test_byte_pieces() -> None:
    assert [byte_of_piece(piece) for piece in ("<0x00>", "<0xfF>", "<0x100>", "0x00", "<0xG0>")] == [0, 255] + [
        None
    ] * 3


def test_a_space_before_each_text_is_dropped_once() -> None:
    joiner = Joiner(Spelling.SENTENCEPIECE, drops_space=True)
    assert [joiner.text(b"  a"), joiner.text(b" b"), joiner.text(b"")] == [b" a", b" b", b""]
    assert joiner.special(b"<s>", is_skipped=False) == b"<s>"
    assert joiner.text(b" c") == b"c"
    assert joiner.special(b"<unk>", is_skipped=True, is_unknown=True) == b""
    assert joiner.text(b" d") == b" d"


def test_a_space_that_nobody_put_there_stays() -> None:
    assert Joiner(Spelling.SENTENCEPIECE, drops_space=False).text(b" a") == b" a"
    assert Joiner(Spelling.BYTE_LEVEL, drops_space=True).text(b" a") == b" a"
    assert Joiner(Spelling.WORDPIECE, drops_space=True, is_continuation=True).text(b" a") == b" a"
