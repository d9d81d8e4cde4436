"""The tokenizer of a GGUF file as data: what its metadata say, checked, in the form that is cached."""

from __future__ import annotations

import enum
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from lepton_ai.errors import InvalidModel, UnsupportedModel
from lepton_ai.text.byte_level import byte_alphabet
from lepton_ai.text.pretokenizer import Json, pretokenizer_json

_MAX_TOKENS = 1 << 21
"""No published vocabulary comes near; it bounds what a hostile file makes us build."""

_END_OF_TURN = frozenset(
    ["<|endoftext|>", "<|im_end|>", "<|end|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<end_of_turn>", "</s>"]
)
"""Control tokens by which published model families end a turn or a text."""

_END_KEYS = ("eos_token_id", "eot_token_id", "eom_token_id")

_UNSPELLED = "\n"
"""Vocabulary entry for a byte without a token: no spelling holds a line feed."""


class Metadata(Protocol):
    """The accessors of a GGUF file's metadata that are used here. They raise InvalidModel, naming the key."""

    def __contains__(self, key: object) -> bool:
        """Whether the file has ``key``."""
        ...

    def get_int(self, key: str, default: int | None = None) -> int:
        """An integer."""
        ...

    def get_bool(self, key: str, default: bool | None = None) -> bool:
        """A boolean."""
        ...

    def get_str(self, key: str, default: str | None = None) -> str:
        """A string."""
        ...

    def get_str_array(self, key: str) -> list[str]:
        """Strings, such as a vocabulary."""
        ...

    def get_int_array(self, key: str) -> Iterable[int]:
        """Integers, such as the types of tokens."""
        ...


class TokenType(enum.IntEnum):
    """``tokenizer.ggml.token_type`` of the GGUF specification."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """All of a tokenizer but its BPE.

    ``control_tokens`` never come out of text; ``user_defined`` are found in text before BPE. ``unspelled_id``, where
    some byte has no token, is what BPE gives for it: an id past the vocabulary, to be left out.
    """

    vocab_size: int
    control_tokens: dict[str, int]
    user_defined: dict[str, int]
    unspelled_id: int | None
    bos_id: int | None
    eos_id: int | None
    eos_token_ids: tuple[int, ...]
    add_bos: bool
    add_eos: bool


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A byte-level BPE tokenizer: its special tokens, and the rest as a ``tokenizer.json``."""

    special: SpecialTokens
    bpe_json: bytes


def read_vocabulary(metadata: Metadata) -> Vocabulary:
    """The vocabulary of a GGUF file. Raises UnsupportedModel for another kind, InvalidModel for a malformed one."""
    model = metadata.get_str("tokenizer.ggml.model")
    if model != "gpt2":
        raise UnsupportedModel(f"tokenizer.ggml.model: expected gpt2 (byte-level BPE), got {model!r}", param="model")
    pretokenizer = pretokenizer_json(metadata.get_str("tokenizer.ggml.pre"))
    texts = metadata.get_str_array("tokenizer.ggml.tokens")
    of_type = _ids_by_type(metadata, texts)
    vocab = {texts[i]: i for i in sorted(of_type[TokenType.NORMAL] + of_type[TokenType.BYTE])}
    _check_spellings(vocab)
    control = {texts[i]: i for i in of_type[TokenType.CONTROL] + of_type[TokenType.UNKNOWN]}
    user_defined = {texts[i]: i for i in of_type[TokenType.USER_DEFINED]}
    if "" in control or "" in user_defined:
        raise InvalidModel("tokenizer.ggml.tokens: expected control tokens with text, got an empty one", param="model")
    is_complete = all(char in vocab for char in byte_alphabet().values())
    special = _read_special(metadata, len(texts), control, user_defined, is_complete=is_complete)
    merges = metadata.get_str_array("tokenizer.ggml.merges")
    _check_merges(merges, vocab)
    return Vocabulary(special, _bpe_json(vocab, merges, special, pretokenizer))


def _ids_by_type(metadata: Metadata, texts: Sequence[str]) -> dict[int, list[int]]:
    if not 0 < len(texts) <= _MAX_TOKENS:
        raise InvalidModel(f"tokenizer.ggml.tokens: expected 1 to {_MAX_TOKENS}, got {len(texts)}", param="model")
    if len(set(texts)) != len(texts):
        raise InvalidModel("tokenizer.ggml.tokens: expected distinct tokens, one stands there twice", param="model")
    types = [int(kind) for kind in metadata.get_int_array("tokenizer.ggml.token_type")]
    if len(types) != len(texts):
        raise InvalidModel(f"tokenizer.ggml.token_type: expected {len(texts)} types, got {len(types)}", param="model")
    by_type: dict[int, list[int]] = {kind: [] for kind in TokenType}
    for token_id, kind in enumerate(types):
        if kind not in by_type:
            raise InvalidModel(f"tokenizer.ggml.token_type: expected 1 to 6, got {kind} at {token_id}", param="model")
        by_type[kind].append(token_id)
    return by_type


def _check_spellings(tokens: Iterable[str]) -> None:
    for token in tokens:
        if not token or " " in token or "\n" in token:
            raise InvalidModel(f"tokenizer.ggml.tokens: expected byte-level spelling, got {token!r}", param="model")


def _check_merges(merges: Sequence[str], vocab: dict[str, int]) -> None:
    for rank, line in enumerate(merges):
        left, space, right = line.partition(" ")
        # A merge that made a control token would let text become one: those are not in vocab.
        if not space or left not in vocab or right not in vocab or left + right not in vocab:
            raise InvalidModel(
                f"tokenizer.ggml.merges: expected two normal tokens that make a third, got {line[:80]!r} at {rank}",
                param="model",
            )


def _read_special(
    metadata: Metadata, size: int, control: dict[str, int], user_defined: dict[str, int], *, is_complete: bool
) -> SpecialTokens:
    ids = {key: _special_id(metadata, key, size) for key in ("bos_token_id", *_END_KEYS)}
    ends = {ids[key] for key in _END_KEYS} | {control.get(text) for text in _END_OF_TURN}
    return SpecialTokens(
        vocab_size=size,
        control_tokens=control,
        user_defined=user_defined,
        unspelled_id=None if is_complete else size,
        bos_id=ids["bos_token_id"],
        eos_id=ids["eos_token_id"],
        eos_token_ids=tuple(sorted(i for i in ends if i is not None)),
        add_bos=metadata.get_bool("tokenizer.ggml.add_bos_token", False),
        add_eos=metadata.get_bool("tokenizer.ggml.add_eos_token", False),
    )


def _special_id(metadata: Metadata, name: str, size: int) -> int | None:
    key = f"tokenizer.ggml.{name}"
    if key not in metadata:
        return None
    value = metadata.get_int(key)
    if not 0 <= value < size:
        raise InvalidModel(f"{key}: expected an id below {size}, got {value}", param="model")
    return value


def _bpe_json(vocab: dict[str, int], merges: Sequence[str], special: SpecialTokens, pretokenizer: Json) -> bytes:
    entries = vocab | special.user_defined
    if special.unspelled_id is not None:
        # As an unknown token, a byte without a token keeps its neighbours from being merged across it.
        entries[_UNSPELLED] = special.unspelled_id
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    tokenizer = {
        "version": "1.0",
        "added_tokens": [{"id": i, "content": text, **flags} for text, i in special.user_defined.items()],
        "pre_tokenizer": pretokenizer,
        "model": {
            "type": "BPE",
            "unk_token": None if special.unspelled_id is None else _UNSPELLED,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": entries,
            "merges": merges,
        },
    }
    return json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
