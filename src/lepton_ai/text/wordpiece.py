"""WordPiece: words, and the longest pieces that a word begins with (Devlin et al. 2019, "BERT").

A word that its pieces do not spell is one unknown token.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lepton_ai.errors import InvalidModel
from lepton_ai.text.gguf_tokens import Metadata, TokenType, read_roles, read_tokens, special_tokens
from lepton_ai.text.spelling import CONTINUATION, WORD_START, Spelling
from lepton_ai.text.vocabulary import Frame, Json, Vocabulary, added_tokens, splitter_json

MAX_WORD = 100
"""Characters of a word that is looked up at all, in BERT's own tokenizer."""

UNKNOWN = "\n"
"""The unknown token's entry in the model: no word holds a line feed, so that the text ``[UNK]`` is not it."""


def read_gguf(metadata: Metadata) -> Vocabulary:
    """The vocabulary of the tokenizer model ``bert``, which marks the beginning of words and not their continuation.

    GGUF does not say whether a model is cased: one whose pieces have no capitals is not. Raises InvalidModel for
    malformed data or a file without a ``[CLS]``, ``[SEP]`` or unknown token.
    """
    tokens = read_tokens(metadata)
    pieces = {_unmarked(text): token_id for text, token_id in tokens.of_type(TokenType.NORMAL).items()}
    if len(pieces) != len(tokens.ids_of_type[TokenType.NORMAL]):
        raise InvalidModel("tokenizer.ggml.tokens: expected distinct pieces, one stands there twice", param="model")
    roles = read_roles(metadata, len(tokens.texts))
    control = tokens.control
    first = _required("cls", roles.get("cls", roles.get("bos", control.get("[CLS]"))))
    last = _required("sep", roles.get("sep", control.get("[SEP]")))
    unknown = _required("unk", roles.get("unk", control.get("[UNK]")))
    special = special_tokens(
        metadata,
        tokens,
        frame=pair_frame(first, last),
        spelling=Spelling.WORDPIECE,
        drops_space=True,
    )
    special.role_ids.update(cls=first, sep=last, unk=unknown)
    model = wordpiece_model(pieces, special.user_defined, unknown)
    normalizer = bert_normalizer(lowercase=not _has_capitals(pieces))
    splitter = splitter_json(
        model,
        added=added_tokens(special.user_defined),
        normalizer=normalizer,
        pre_tokenizer={"type": "BertPreTokenizer"},
    )
    return Vocabulary(special, splitter)


def pair_frame(first: int, last: int) -> Frame:
    """``[CLS] A [SEP]`` and ``[CLS] A [SEP] B [SEP]`` with the token types of BERT."""
    ends = {"suffix": (last,), "middle": (last,), "pair_suffix": (last,)}
    return Frame(prefix=(first,), pair_prefix=(first,), second_type=1, **ends)


def bert_normalizer(*, lowercase: bool, strip_accents: bool | None = None, chinese: bool = True) -> Json:
    """BERT's clean-up of text. Accents are stripped where letters are made small, unless ``strip_accents`` is given."""
    flags = {"clean_text": True, "handle_chinese_chars": chinese, "strip_accents": strip_accents}
    return {"type": "BertNormalizer", **flags, "lowercase": lowercase}


def wordpiece_model(
    pieces: Mapping[str, int], user_defined: Mapping[str, int], unknown: int, *, max_word: int = MAX_WORD
) -> Json:
    """The model as the ``tokenizers`` library reads it. Control tokens are not among ``pieces``."""
    return {
        "type": "WordPiece",
        "unk_token": UNKNOWN,
        "continuing_subword_prefix": CONTINUATION,
        "max_input_chars_per_word": max_word,
        "vocab": {**pieces, **user_defined, UNKNOWN: unknown},
    }


def _unmarked(text: str) -> str:
    return text.removeprefix(WORD_START) if text.startswith(WORD_START) else CONTINUATION + text


def _has_capitals(pieces: Iterable[str]) -> bool:
    return any(piece != piece.lower() for piece in pieces if not piece.endswith("]"))


def _required(role: str, token_id: int | None) -> int:
    if token_id is None:
        raise InvalidModel(f"tokenizer.ggml: expected a {role} token, got none", param="model")
    return token_id
