from lepton_ai.text.byte_level import ByteDecoder, byte_alphabet


def test_alphabet_is_one_printable_character_for_each_byte() -> None:
    alphabet = byte_alphabet()
    assert sorted(alphabet) == list(range(256))
    assert len(set(alphabet.values())) == 256
    assert not any(char.isspace() for char in alphabet.values())
    assert (alphabet[ord("a")], alphabet[ord(" ")], alphabet[ord("\n")], alphabet[0]) == ("a", "Ġ", "Ċ", "Ā")


def test_decoder_inverts_the_alphabet() -> None:
    alphabet = byte_alphabet()
    raw = bytes(range(256))
    assert ByteDecoder().decode("".join(alphabet[byte] for byte in raw)) == raw


def test_token_outside_the_alphabet_is_its_own_text() -> None:
    assert ByteDecoder().decode("世 a") == "世 a".encode()
