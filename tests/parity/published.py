"""Published shapes with random weights: the sizes, the names and the layout that a family's own checkpoints have.

Like tests/parity/families.py, for the environments of both sides; what these compute is too large to be kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from tests.parity.families import Case, Config, F32Array, Shapes, random_weights

NUM_TOKENS = 128


@dataclass(frozen=True, slots=True)
class PublishedShape:
    """A case. Its published file names tensors without ``prefix``, or with ``added_prefix``, and holds ``buffers`` that
    are no weights beside them.
    """

    case: Case
    prefix: str = ""
    added_prefix: str = ""
    buffers: Mapping[str, F32Array] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of the case."""
        return self.case.name

    def published_tensors(self, shapes: Shapes) -> dict[str, F32Array]:
        """What the file holds, of a model whose tensors have these names and ``shapes``."""
        weights = random_weights(self.name, shapes)
        named = {self.added_prefix + name.removeprefix(self.prefix): values for name, values in weights.items()}
        return {**named, **self.buffers}


def _gpt2_medium() -> PublishedShape:
    config = {
        "model_type": "gpt2",
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "n_ctx": 1024,
        "n_embd": 1024,
        "n_head": 16,
        "n_layer": 24,
        "n_positions": 1024,
        "vocab_size": 50257,
    }
    mask = np.tril(np.ones((1, 1, 1024, 1024), np.float32))
    return PublishedShape(
        Case("gpt2-medium", config, {"eps": {"layer_norm_epsilon": 1.01e-5}}),
        prefix="transformer.",
        buffers={f"h.{layer}.attn.bias": mask for layer in range(24)},
    )


def _bert_base() -> PublishedShape:
    config = {
        "model_type": "bert",
        "architectures": ["BertForMaskedLM"],
        "hidden_act": "gelu",
        "hidden_size": 768,
        "intermediate_size": 3072,
        "layer_norm_eps": 1e-5,  # published: 1e-12, of which no change could show
        "max_position_embeddings": 512,
        "num_attention_heads": 12,
        "num_hidden_layers": 12,
        "pad_token_id": 0,
        "position_embedding_type": "absolute",
        "type_vocab_size": 2,
        "vocab_size": 30522,
    }
    changes: Mapping[str, Config] = {"eps": {"layer_norm_eps": 1.01e-5}, "activation": {"hidden_act": "gelu_new"}}
    heads = {"cls.predictions.bias": np.zeros(30522, np.float32), "cls.seq_relationship.bias": np.zeros(2, np.float32)}
    return PublishedShape(Case("bert-base", config, changes, "hidden_states"), added_prefix="bert.", buffers=heads)


SHAPES = (_gpt2_medium(), _bert_base())
