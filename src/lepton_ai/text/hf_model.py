"""The model of a ``tokenizer.json``, checked and without control tokens, so that no text reaches them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lepton_ai.errors import UnsupportedModel
from lepton_ai.text.hf_special import AddedTokens
from lepton_ai.text.spelling import CONTINUATION
from lepton_ai.text.untrusted_json import Fields
from lepton_ai.text.vocabulary import MAX_TOKENS, Json, bpe_model
from lepton_ai.text.wordpiece import MAX_WORD, wordpiece_model

_UNKNOWN = "\uffff\uffff"
"""The unknown token's entry in a BPE: two noncharacters that no merge makes one."""

_MAX_MERGES = 1 << 22
_MAX_WORD_LIMIT = 1000
_BPE_FLAGS = ("fuse_unk", "byte_fallback", "ignore_merges")


@dataclass(frozen=True, slots=True)
class Model:
    """All entries of the vocabulary by text, control tokens too, the unknown token, and the rest of the model."""

    vocab: dict[str, int]
    unknown: str | None
    fields: Fields
    is_wordpiece: bool


def read_model(file: Fields) -> Model:
    """The vocabulary of a file's model. Raises UnsupportedModel for another kind than BPE and WordPiece."""
    fields = file.take_fields("model")
    kind = fields.take("type", str, _untold_kind(fields))
    if kind not in ("BPE", "WordPiece"):
        raise UnsupportedModel(f"{fields.label}: expected one of BPE, WordPiece, got {kind[:80]!r}", param="model")
    vocab: dict[str, int] = fields.take("vocab", dict)
    if not 0 < len(vocab) <= MAX_TOKENS:
        raise fields.wrong(f"1 to {MAX_TOKENS} tokens", len(vocab))
    if not all(type(token_id) is int and 0 <= token_id < MAX_TOKENS for token_id in vocab.values()):
        raise fields.wrong(f"ids below {MAX_TOKENS}", "others")
    if len(set(vocab.values())) != len(vocab):
        raise fields.wrong("distinct ids", "one that stands there twice")
    unknown = fields.take("unk_token", str) if "unk_token" in fields else None
    fields.take_any("unk_token")
    if unknown is not None and unknown not in vocab:
        raise fields.wrong("an unk_token of the vocabulary", repr(unknown[:80]))
    return Model(vocab, unknown, fields, is_wordpiece=kind == "WordPiece")


def _untold_kind(fields: Fields) -> str:
    """Files of before 2020 leave the type out; each kind is known by the fields that it has then."""
    if "merges" in fields:
        return "BPE"
    if "continuing_subword_prefix" in fields and "max_input_chars_per_word" in fields:
        return "WordPiece"
    return "Unigram" if isinstance(fields.peek("vocab"), list) else "WordLevel"


def model_json(model: Model, added: AddedTokens) -> Json:
    """The model as the ``tokenizers`` library reads it. What it needs of ``model.fields`` is taken."""
    control_ids = set(added.control.values())
    pieces = {text: i for text, i in model.vocab.items() if i not in control_ids and text not in added.control}
    if model.is_wordpiece:
        return _wordpiece_json(model, pieces, added)
    fields = model.fields
    flags = {name: fields.take(name, bool, False) for name in _BPE_FLAGS}
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if value := fields.take_any(name):
            raise UnsupportedModel(f"{fields.label}: {name}: expected none, got {str(value)[:80]!r}", param="model")
    merges = _reachable_merges(fields, model.vocab, pieces)
    fields.refuse_rest()
    entries = pieces | added.user_defined
    if model.unknown is not None:
        if _UNKNOWN in entries:
            raise fields.wrong("no token of two noncharacters", repr(_UNKNOWN))
        entries[_UNKNOWN] = model.vocab[model.unknown]
    return bpe_model(entries, merges, unk_token=None if model.unknown is None else _UNKNOWN, **flags)


def _wordpiece_json(model: Model, pieces: Mapping[str, int], added: AddedTokens) -> Json:
    fields = model.fields
    prefix = fields.take("continuing_subword_prefix", str, CONTINUATION)
    max_word = fields.take("max_input_chars_per_word", int, MAX_WORD)
    fields.refuse_rest()
    if model.unknown is None or prefix != CONTINUATION or not 0 < max_word <= _MAX_WORD_LIMIT:
        raise fields.wrong(
            f"an unk_token, {CONTINUATION} and words up to {_MAX_WORD_LIMIT} characters",
            f"{model.unknown!r}, {prefix[:80]!r} and {max_word}",
        )
    return wordpiece_model(pieces, added.user_defined, model.vocab[model.unknown], max_word=max_word)


def _reachable_merges(fields: Fields, vocab: Mapping[str, int], pieces: Mapping[str, int]) -> list[tuple[str, str]]:
    """The merges in their order, but for those of control tokens: SentencePiece's converters write some."""
    merges = []
    for rank, (left, right) in enumerate(_pairs(fields)):
        if left not in vocab or right not in vocab or left + right not in vocab:
            raise fields.wrong("merges of two tokens that make a third", f"{left[:40]!r} {right[:40]!r} at {rank}")
        if left in pieces and right in pieces and left + right in pieces:
            merges.append((left, right))
    return merges


def _pairs(fields: Fields) -> Iterable[tuple[str, str]]:
    merges = fields.take("merges", list)
    if len(merges) > _MAX_MERGES:
        raise fields.wrong(f"up to {_MAX_MERGES} merges", len(merges))
    for rank, merge in enumerate(merges):
        parts = merge.split(" ") if isinstance(merge, str) else merge
        if not isinstance(parts, list) or len(parts) != 2 or not all(isinstance(part, str) for part in parts):
            raise fields.wrong("merges of two tokens", f"{str(merge)[:80]!r} at {rank}")
        yield parts[0], parts[1]
