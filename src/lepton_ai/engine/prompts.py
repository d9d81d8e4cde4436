"""What callers write as prompts, made into token ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

from lepton_ai.backends.base import Int32Array
from lepton_ai.engine.engine import check_token_ids
from lepton_ai.errors import ContextLengthExceeded, InvalidRequest
from lepton_ai.text.tokenizer import Tokenizer

ItemT = TypeVar("ItemT")
IdsT = TypeVar("IdsT", bound=Sequence[int] | Int32Array)

Prompt = str | Sequence[int] | Int32Array
"""Text, or token ids as they are: nothing is added to ids."""

Message = Mapping[str, object]
"""``role`` and ``content``, and whatever else the model's chat template knows."""


def encode_prompt(prompt: Prompt, tokenizer: Tokenizer, *, name: str = "prompt") -> Int32Array:
    """Checked ids of a prompt, with the BOS the model asks for if it is text.

    Raises InvalidRequest, naming ``name``, for an empty prompt or an id that the vocabulary lacks.
    """
    if not isinstance(prompt, str | Sequence | np.ndarray) or isinstance(prompt, bytes):
        raise InvalidRequest(f"{name}: expected text or token ids, got {type(prompt).__name__}", param=name)
    ids = tokenizer.encode(prompt) if isinstance(prompt, str) else prompt
    return check_token_ids(ids, vocab_size=tokenizer.vocab_size, name=name)


def as_list(items: str | Sequence[ItemT], *, name: str) -> Sequence[str | ItemT]:
    """Prompts or texts (``name``) as several; a single string is one.

    Raises InvalidRequest for a flat list of ids: it is ambiguous.
    """
    if isinstance(items, str):
        return [items]
    if not isinstance(items, Sequence) or isinstance(items, bytes):
        raise InvalidRequest(f"{name}: expected a list of {name}, got {type(items).__name__}", param=name)
    if items and isinstance(items[0], int):
        raise InvalidRequest(f"{name}: expected a list of {name}, got a list of ids; write [ids] for one", param=name)
    return items


def check_length(ids: IdsT, max_model_len: int, *, name: str) -> IdsT:
    """``ids`` if they fit the context. Raises ContextLengthExceeded."""
    if len(ids) > max_model_len:
        raise ContextLengthExceeded(
            f"{name}: {len(ids)} tokens exceed the context of {max_model_len} tokens", param=name
        )
    return ids
