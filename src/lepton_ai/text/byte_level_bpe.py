"""Byte-level BPE as GGUF files of the tokenizer model ``gpt2`` have it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from lepton_ai.errors import InvalidModel
from lepton_ai.text.byte_level import byte_alphabet
from lepton_ai.text.gguf_tokens import Metadata, TokenType, read_frame, read_roles, read_tokens, special_tokens
from lepton_ai.text.pretokenizer import pretokenizer_of_gguf
from lepton_ai.text.spelling import Spelling
from lepton_ai.text.vocabulary import Vocabulary, added_tokens, bpe_model, splitter_json

_UNSPELLED = "\n"
"""Vocabulary entry for a byte without a token: no spelling holds a line feed."""


def read_gguf(metadata: Metadata) -> Vocabulary:
    """The vocabulary. Raises UnsupportedModel for an unknown pre-tokenizer, InvalidModel for malformed data."""
    pretokenizer = pretokenizer_of_gguf(metadata.get_str("tokenizer.ggml.pre"))
    tokens = read_tokens(metadata)
    vocab = tokens.of_type(TokenType.NORMAL, TokenType.BYTE)
    _check_spellings(vocab)
    merges = metadata.get_str_array("tokenizer.ggml.merges")
    _check_merges(merges, vocab)
    size = len(tokens.texts)
    is_complete = all(char in vocab for char in byte_alphabet().values())
    frame = read_frame(metadata, read_roles(metadata, size), add_bos=False, add_eos=False)
    special = special_tokens(
        metadata,
        tokens,
        frame=frame,
        spelling=Spelling.BYTE_LEVEL,
        unspelled_id=None if is_complete else size,
    )
    # As an unknown token, a byte without a token keeps its neighbours from being merged across it.
    unspelled = {} if is_complete else {_UNSPELLED: size}
    model = bpe_model(
        vocab | special.user_defined | unspelled,
        merges,
        unk_token=None if is_complete else _UNSPELLED,
        ignore_merges=pretokenizer.ignore_merges,
    )
    added = added_tokens(special.user_defined)
    return Vocabulary(special, splitter_json(model, added=added, pre_tokenizer=pretokenizer.json))


def _check_spellings(tokens: Iterable[str]) -> None:
    for token in tokens:
        if not token or " " in token or "\n" in token:
            raise InvalidModel(f"tokenizer.ggml.tokens: expected byte-level spelling, got {token!r}", param="model")


def _check_merges(merges: Sequence[str], vocab: Mapping[str, int]) -> None:
    for rank, line in enumerate(merges):
        left, space, right = line.partition(" ")
        # A merge that made a control token would let text become one: those are not in vocab.
        if not space or left not in vocab or right not in vocab or left + right not in vocab:
            raise InvalidModel(
                f"tokenizer.ggml.merges: expected two normal tokens that make a third, got {line[:80]!r} at {rank}",
                param="model",
            )
