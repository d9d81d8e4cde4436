"""What callers write as prompts, made into token ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lepton_ai.backends.base import Int32Array
from lepton_ai.engine.engine import check_token_ids
from lepton_ai.errors import ContextLengthExceeded, InvalidRequest
from lepton_ai.text.tokenizer import Tokenizer

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


def as_prompts(prompts: str | Sequence[Prompt], *, name: str) -> Sequence[Prompt]:
    """``prompts`` as several; a single text is one. Raises InvalidRequest for a flat list of ids: it is ambiguous."""
    if isinstance(prompts, str):
        return [prompts]
    if not isinstance(prompts, Sequence) or isinstance(prompts, bytes):
        raise InvalidRequest(f"{name}: expected a list of prompts, got {type(prompts).__name__}", param=name)
    if prompts and isinstance(prompts[0], int):
        raise InvalidRequest(f"{name}: expected a list of prompts, got a list of ids; write [ids] for one", param=name)
    return prompts


def check_length(ids: Int32Array, max_model_len: int, *, name: str) -> Int32Array:
    """``ids`` if they fit the context. Raises ContextLengthExceeded."""
    if len(ids) > max_model_len:
        raise ContextLengthExceeded(
            f"{name}: {len(ids)} tokens exceed the context of {max_model_len} tokens", param=name
        )
    return ids
