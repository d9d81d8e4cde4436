"""The tokens of a GGUF file by their type, checked, and its special ids."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from lepton_ai.errors import InvalidModel
from lepton_ai.text.spelling import Spelling
from lepton_ai.text.vocabulary import MAX_TOKENS, Frame, SpecialTokens, end_ids

CHAT_TEMPLATE_KEY: Final = "tokenizer.chat_template"
"""The key of a GGUF file's chat template."""

_END_KEYS = ("eos_token_id", "eot_token_id", "eom_token_id")

_ROLE_KEYS = (
    *(("bos", "bos_token_id"), ("eos", "eos_token_id"), ("unk", "unknown_token_id"), ("pad", "padding_token_id")),
    *(("cls", "cls_token_id"), ("mask", "mask_token_id")),
    # The GGUF specification misspells it.
    ("sep", "seperator_token_id"),
)


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

    def get_float_array(self, key: str) -> Iterable[float]:
        """Finite floating-point numbers, such as the scores of tokens."""
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
class GGUFTokens:
    """Texts by id, distinct, and the ids of each type in ascending order."""

    texts: Sequence[str]
    ids_of_type: Mapping[int, Sequence[int]]

    def of_type(self, *types: TokenType) -> dict[str, int]:
        """The tokens of some types: text to id, by ascending id."""
        return {self.texts[i]: i for i in sorted(i for kind in types for i in self.ids_of_type[kind])}

    @property
    def control(self) -> dict[str, int]:
        """Control tokens, the unknown one among them."""
        return self.of_type(TokenType.CONTROL, TokenType.UNKNOWN)

    @property
    def user_defined(self) -> dict[str, int]:
        """Tokens that are found in a text as it was given."""
        return self.of_type(TokenType.USER_DEFINED)


def read_tokens(metadata: Metadata) -> GGUFTokens:
    """The tokens of a file. Raises InvalidModel for lengths that differ, unknown types, or a text that is twice."""
    texts = metadata.get_str_array("tokenizer.ggml.tokens")
    if not 0 < len(texts) <= MAX_TOKENS:
        raise InvalidModel(f"tokenizer.ggml.tokens: expected 1 to {MAX_TOKENS}, got {len(texts)}", param="model")
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
    tokens = GGUFTokens(texts, by_type)
    if "" in tokens.control or "" in tokens.user_defined:
        raise InvalidModel("tokenizer.ggml.tokens: expected control tokens with text, got an empty one", param="model")
    return tokens


def read_roles(metadata: Metadata, size: int) -> dict[str, int]:
    """The ids that the file gives to the roles of ``SpecialTokens.role_ids``. Raises InvalidModel out of range."""
    ids = {role: special_id(metadata, key, size) for role, key in _ROLE_KEYS}
    return {role: token_id for role, token_id in ids.items() if token_id is not None}


def read_frame(metadata: Metadata, roles: Mapping[str, int], *, add_bos: bool, add_eos: bool) -> Frame:
    """BOS and EOS around a text where the file asks for them; ``add_bos`` and ``add_eos`` where it says nothing."""
    prefix = (roles["bos"],) if metadata.get_bool("tokenizer.ggml.add_bos_token", add_bos) and "bos" in roles else ()
    suffix = (roles["eos"],) if metadata.get_bool("tokenizer.ggml.add_eos_token", add_eos) and "eos" in roles else ()
    return Frame(prefix, suffix)


def special_tokens(
    metadata: Metadata,
    tokens: GGUFTokens,
    *,
    frame: Frame,
    spelling: Spelling,
    unspelled_id: int | None = None,
    drops_space: bool = False,
) -> SpecialTokens:
    """The special tokens of a file."""
    size = len(tokens.texts)
    return SpecialTokens(
        vocab_size=size,
        control_tokens=tokens.control,
        user_defined=tokens.user_defined,
        unspelled_id=unspelled_id,
        role_ids=read_roles(metadata, size),
        eos_token_ids=end_ids(tokens.control, [special_id(metadata, key, size) for key in _END_KEYS]),
        frame=frame,
        spelling=spelling,
        drops_space=drops_space,
    )


def special_id(metadata: Metadata, name: str, size: int) -> int | None:
    """The id under ``tokenizer.ggml.{name}``; None if there is none. Raises InvalidModel out of range."""
    key = f"tokenizer.ggml.{name}"
    if key not in metadata:
        return None
    value = metadata.get_int(key)
    if not 0 <= value < size:
        raise InvalidModel(f"{key}: expected an id below {size}, got {value}", param="model")
    return value
