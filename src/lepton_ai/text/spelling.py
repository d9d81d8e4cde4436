"""How the entries of a vocabulary spell bytes, and which space between tokens is not the text's own."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable

from lepton_ai.text.byte_level import ByteDecoder

WORD_START = "▁"
"""U+2581, SentencePiece's space."""

CONTINUATION = "##"
"""What WordPiece puts before a piece that continues a word."""

_BYTE_PIECE = re.compile("<0x([0-9A-Fa-f]{2})>")


class Spelling(enum.Enum):
    """The kinds of vocabulary: bytes as printable characters, ``▁`` and ``<0xNN>``, or words and ``##`` pieces."""

    BYTE_LEVEL = "byte_level"
    SENTENCEPIECE = "sentencepiece"
    WORDPIECE = "wordpiece"


def speller(spelling: Spelling) -> Callable[[str], bytes]:
    """The function from an entry to its bytes within a text; the first entry's space is the business of ``Joiner``."""
    if spelling is Spelling.BYTE_LEVEL:
        return ByteDecoder().decode
    return _spell_piece if spelling is Spelling.SENTENCEPIECE else _spell_word


def byte_of_piece(piece: str) -> int | None:
    """The byte that ``<0xNN>`` stands for; None for any other piece."""
    match = _BYTE_PIECE.fullmatch(piece)
    return int(match[1], 16) if match else None


def _spell_piece(piece: str) -> bytes:
    byte = byte_of_piece(piece)
    return piece.replace(WORD_START, " ").encode("utf-8") if byte is None else bytes([byte])


def _spell_word(piece: str) -> bytes:
    is_continuation = piece.startswith(CONTINUATION) and piece != CONTINUATION
    return (piece[len(CONTINUATION) :] if is_continuation else f" {piece}").encode("utf-8")


class Joiner:
    """Puts the bytes of tokens side by side, one token at a time.

    A SentencePiece model with ``drops_space`` was given a space before each text, at the beginning and after a special
    token: that space is left out. WordPiece has a space between words and around special tokens, none at the
    beginning. With ``is_continuation`` the tokens follow others, so that nothing is a beginning.
    """

    __slots__ = ("_drops_space", "_is_fresh", "_spelling")

    def __init__(self, spelling: Spelling, *, drops_space: bool, is_continuation: bool = False) -> None:
        self._spelling = spelling
        self._drops_space = drops_space
        self._is_fresh = not is_continuation

    def text(self, data: bytes) -> bytes:
        """The bytes that a token of text adds. ``data`` are those of the token alone."""
        if self._spelling is Spelling.BYTE_LEVEL or not data:
            return data
        is_fresh, self._is_fresh = self._is_fresh, False
        return data.removeprefix(b" ") if is_fresh and self._drops_space else data

    def special(self, data: bytes, *, is_skipped: bool, is_unknown: bool = False) -> bytes:
        """The bytes that a special token adds: none for one that is skipped.

        The unknown token stands within a text, so that no other text begins after it.
        """
        if self._spelling is Spelling.WORDPIECE:
            return b"" if is_skipped else self.text(b" " + data)
        self._is_fresh = not is_unknown
        return b"" if is_skipped else data
