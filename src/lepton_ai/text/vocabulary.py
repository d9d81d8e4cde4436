"""A tokenizer as data: its special tokens, what it puts around a text, and the rest in the form that is cached."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from lepton_ai.text.spelling import Spelling

Json: TypeAlias = Mapping[str, object]

MAX_TOKENS = 1 << 21
"""No published vocabulary comes near; it bounds what a hostile file makes us build."""

_END_OF_TURN = (
    *("<|endoftext|>", "<|im_end|>", "<|end|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<end_of_turn>"),
    "</s>",
)
"""Control tokens by which published model families end a turn or a text."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Control tokens around texts: ``prefix A suffix``, or ``pair_prefix A middle second_prefix B pair_suffix``.

    The token type from ``second_prefix`` on is ``second_type``, that of the rest 0. ``middle`` is None for a model
    that takes no pairs.
    """

    prefix: tuple[int, ...] = ()
    suffix: tuple[int, ...] = ()
    pair_prefix: tuple[int, ...] = ()
    middle: tuple[int, ...] | None = None
    second_prefix: tuple[int, ...] = ()
    pair_suffix: tuple[int, ...] = ()
    second_type: int = 0


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """All of a tokenizer but its splitting of text.

    ``control_tokens`` never come out of text, but for the unknown token of a vocabulary that does not spell
    everything; ``user_defined`` are found in text before it is split. ``unspelled_id``, where some byte has no token,
    is what BPE gives for it: an id past the vocabulary, to be left out. ``role_ids`` has the ids of ``bos``, ``eos``,
    ``unk``, ``pad``, ``cls``, ``sep`` and ``mask``, as far as there are any. For ``drops_space`` see ``Joiner``.
    """

    vocab_size: int
    control_tokens: dict[str, int]
    user_defined: dict[str, int]
    unspelled_id: int | None
    role_ids: dict[str, int]
    eos_token_ids: tuple[int, ...]
    frame: Frame
    spelling: Spelling
    drops_space: bool


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A tokenizer: its special tokens, its chat template if it brings one, and the rest as a ``tokenizer.json``."""

    special: SpecialTokens
    splitter_json: bytes
    chat_template: str | None = None


def end_ids(control_tokens: Mapping[str, int], named: Sequence[int | None]) -> tuple[int, ...]:
    """The ids that end a text: those that the file names, and control tokens known to end a turn."""
    ids = {*named, *(control_tokens.get(text) for text in _END_OF_TURN)}
    return tuple(sorted(i for i in ids if i is not None))


def added_tokens(texts: Mapping[str, int]) -> list[Json]:
    """Entries that the ``tokenizers`` library finds in a text as it was given, wherever they stand."""
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    return [{"id": token_id, "content": text, **flags} for text, token_id in texts.items()]


def bpe_model(
    vocab: Mapping[str, int], merges: Sequence[object], *, unk_token: str | None = None, **flags: bool
) -> Json:
    """A BPE model as the ``tokenizers`` library reads it. ``flags`` are those that are set."""
    unset = dict.fromkeys(("fuse_unk", "byte_fallback", "ignore_merges"), False)
    return {"type": "BPE", "unk_token": unk_token, **unset, **flags, "vocab": vocab, "merges": merges}


def splitter_json(
    model: Json,
    *,
    added: Sequence[Json] = (),
    normalizer: Json | None = None,
    pre_tokenizer: Json | None = None,
) -> bytes:
    """A ``tokenizer.json`` of these parts. It has no post-processor and no decoder: both are ours."""
    parts = {"normalizer": normalizer, "pre_tokenizer": pre_tokenizer}
    tokenizer = {"version": "1.0", "added_tokens": added, **parts, "model": model}
    return json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
