"""BPE with scores and byte fallback, as SentencePiece trains it: the tokenizer model ``llama`` of GGUF files.

A text is one word, its spaces written as ``▁``. Of all neighbours that make a piece together, those of the best score
are merged first, the leftmost first among equals, until none are left (Kudo and Richardson 2018, "SentencePiece"). A
character without a piece becomes the ``<0xNN>`` pieces of its bytes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence

from lepton_ai.errors import InvalidModel, UnsupportedModel
from lepton_ai.text.gguf_tokens import Metadata, TokenType, read_frame, read_roles, read_tokens, special_tokens
from lepton_ai.text.spelling import WORD_START, Spelling, byte_of_piece
from lepton_ai.text.vocabulary import Json, Vocabulary, added_tokens, bpe_model, splitter_json

_MAX_PIECE = 512
"""Characters of a piece. Published vocabularies stay below 100."""

_MAX_WORK = 1 << 28
"""Squared characters of all pieces: the search for a piece's merge is quadratic. Gemma 3 has 11 million."""


def read_gguf(metadata: Metadata) -> Vocabulary:
    """The vocabulary. Raises UnsupportedModel for an option that is not run, InvalidModel for malformed data."""
    _check_options(metadata)
    tokens = read_tokens(metadata)
    normal = tokens.of_type(TokenType.NORMAL)
    bytes_ = tokens.of_type(TokenType.BYTE)
    _check_bytes(bytes_)
    merges = merges_of_scores(normal, _read_scores(metadata, len(tokens.texts)))
    frame = read_frame(metadata, read_roles(metadata, len(tokens.texts)), add_bos=True, add_eos=False)
    has_prefix = metadata.get_bool("tokenizer.ggml.add_space_prefix", True)
    special = special_tokens(metadata, tokens, frame=frame, spelling=Spelling.SENTENCEPIECE, drops_space=has_prefix)
    model = bpe_model(normal | bytes_ | special.user_defined, merges, byte_fallback=True)
    added = added_tokens(special.user_defined)
    return Vocabulary(special, splitter_json(model, added=added, normalizer=space_normalizer(has_prefix=has_prefix)))


def space_normalizer(*, has_prefix: bool) -> Json:
    """Spaces as ``▁``; with ``has_prefix`` one more before the text."""
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": WORD_START}
    if not has_prefix:
        return replace
    return {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": WORD_START}, replace]}


def merges_of_scores(vocab: Mapping[str, int], scores: Sequence[float]) -> list[str]:
    """The merges of pieces by falling score, then rising id, as ``left right``; ``scores`` are by id.

    One merge a piece is enough. Whatever happens in a text before two neighbours become a piece happens within the
    piece, or they would not be neighbours; so they are what merging leaves last of the piece alone. Raises
    InvalidModel for a piece that is too long.
    """
    if sum(len(piece) ** 2 for piece in vocab) > _MAX_WORK:
        raise InvalidModel("tokenizer.ggml.tokens: expected short pieces, got too many long ones", param="model")
    rank_of = {
        piece: rank for rank, piece in enumerate(sorted(vocab, key=lambda piece: (-scores[vocab[piece]], vocab[piece])))
    }
    merges = []
    for piece in rank_of:
        if len(piece) > _MAX_PIECE or " " in piece:
            raise InvalidModel(
                f"tokenizer.ggml.tokens: expected pieces up to {_MAX_PIECE} characters without a space, "
                f"got {piece[:80]!r}",
                param="model",
            )
        if len(piece) > 1 and (halves := _halves(piece, rank_of)):
            merges.append(" ".join(halves))
    return merges


def _halves(piece: str, rank_of: Mapping[str, int]) -> list[str]:
    """The two symbols that merging ``piece`` alone leaves last; nothing where it gets stuck before."""
    symbols = list(piece)
    if not all(char in rank_of for char in symbols):
        return []
    stuck = len(rank_of)
    while len(symbols) > 2:
        ranks = [rank_of.get(left + right, stuck) for left, right in itertools.pairwise(symbols)]
        best = min(ranks)
        if best == stuck:
            return []
        at = ranks.index(best)
        symbols[at : at + 2] = [symbols[at] + symbols[at + 1]]
    return symbols


def _check_options(metadata: Metadata) -> None:
    # The model's own text: llama.cpp reads neither for this kind, and published files set neither.
    if metadata.get_bool("tokenizer.ggml.remove_extra_whitespaces", False):
        raise UnsupportedModel("tokenizer.ggml.remove_extra_whitespaces: expected false, got true", param="model")
    if "tokenizer.ggml.precompiled_charsmap" in metadata:
        raise UnsupportedModel("tokenizer.ggml.precompiled_charsmap: expected none, got a normaliser", param="model")


def _check_bytes(pieces: Iterable[str]) -> None:
    bytes_ = [byte_of_piece(piece) for piece in pieces]
    if None in bytes_ or len(set(bytes_)) != 256:
        raise UnsupportedModel(
            f"tokenizer.ggml.token_type: expected the 256 byte pieces <0x00> to <0xFF>, got {len(bytes_)} byte tokens",
            param="model",
        )


def _read_scores(metadata: Metadata, size: int) -> list[float]:
    scores = [float(score) for score in metadata.get_float_array("tokenizer.ggml.scores")]
    if len(scores) != size:
        raise InvalidModel(f"tokenizer.ggml.scores: expected {size} scores, got {len(scores)}", param="model")
    return scores
