"""What models have in common: their hyper-parameters, and the names of a graph's inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Head = Literal["logits", "logprobs"]
"""What a decoder's graph ends in, also the name of its output: ``logits`` ``[R, V]``, or ``logprobs`` ``[R]`` of the
input ``targets`` (scoring without ever holding ``[R, V]``)."""

TOKEN_IDS, POSITIONS, LOGIT_ROWS, TARGETS = "token_ids", "positions", "logit_rows", "targets"
"""Names of the inputs of every decoder graph, those of the step's fields: ``[T]``, ``[T]``, ``[R]``, ``[R]`` i32."""

TOKEN_TYPE_IDS = "token_type_ids"
"""Another input of an encoder's graph, ``[T]`` i32, beside the first two."""


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """What every model has. ``context_length`` is in tokens."""

    architecture: str
    vocab_size: int
    context_length: int
    num_layers: int
    hidden_size: int
