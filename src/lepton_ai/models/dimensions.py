"""Names and bounds that every family has in common."""

from __future__ import annotations

from typing import Final

from lepton_ai.errors import InvalidModel
from lepton_ai.models.metadata import Hyperparameters
from lepton_ai.weights.store import WeightStore

EMBEDDING: Final = "token_embd.weight"
"""The table of token embeddings, also the head where they are tied."""

HEAD: Final = "output.weight"
"""The head where it is a matrix of its own."""

MAX_LAYERS: Final = 1024
MAX_HIDDEN: Final = 1 << 17
MAX_FEED_FORWARD: Final = 1 << 20
MAX_HEADS: Final = 1024
MAX_HEAD_DIM: Final = 1024
MAX_CONTEXT: Final = 1 << 24
MAX_VOCAB: Final = 1 << 22


def read_hidden_and_heads(params: Hyperparameters) -> tuple[int, int]:
    """Hidden size and number of heads, which share it evenly. Raises InvalidModel."""
    hidden_size = params.count("embedding_length", MAX_HIDDEN)
    num_heads = params.count("attention.head_count", MAX_HEADS)
    if hidden_size % num_heads:
        raise params.wrong("attention.head_count", f"a divisor of embedding_length {hidden_size}", num_heads)
    return hidden_size, num_heads


def read_vocab_size(params: Hyperparameters, store: WeightStore) -> int:
    """Rows of the table of embeddings. Raises InvalidModel if the hyper-parameters say something else."""
    shape = store.get(EMBEDDING).shape
    if len(shape) != 2 or not 1 <= shape[0] <= MAX_VOCAB:
        raise InvalidModel(f"{EMBEDDING}: expected 1 to {MAX_VOCAB} rows, got shape {shape}", param="model")
    declared = params.count("vocab_size", MAX_VOCAB, default=shape[0])
    if declared != shape[0]:
        raise params.wrong("vocab_size", f"the {shape[0]} rows of {EMBEDDING}", declared)
    return shape[0]
