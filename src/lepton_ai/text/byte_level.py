"""The byte alphabet of byte-level BPE: each of the 256 bytes as one printable character (Radford et al., GPT-2)."""

from __future__ import annotations


def byte_alphabet() -> dict[int, str]:
    """Byte -> character. Printable Latin-1 characters stand for themselves, the rest follow from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    alphabet = {byte: chr(byte) for byte in sorted(printable)}
    others = (byte for byte in range(256) if byte not in printable)
    return alphabet | {byte: chr(0x100 + index) for index, byte in enumerate(others)}


class ByteDecoder:
    """Turns the spelling of a token in the byte alphabet back into its bytes."""

    __slots__ = ("_byte_of",)

    def __init__(self) -> None:
        self._byte_of = {char: byte for byte, char in byte_alphabet().items()}

    def decode(self, token: str) -> bytes:
        """The bytes that ``token`` spells. A token with a character outside the alphabet is its own UTF-8 text."""
        try:
            return bytes([self._byte_of[char] for char in token])
        except KeyError:
            return token.encode("utf-8")
