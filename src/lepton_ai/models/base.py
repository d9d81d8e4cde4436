"""What a model family is: it reads a checkpoint's hyper-parameters and traces its forward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from lepton_ai.graph.attrs import KVSpec
from lepton_ai.graph.graph import Graph
from lepton_ai.models.hf import HFLayout
from lepton_ai.models.metadata import Metadata
from lepton_ai.weights.renamed import Rename
from lepton_ai.weights.store import WeightStore

Head = Literal["logits", "logprobs"]
"""What a graph ends in, also the name of its output: ``logits`` ``[R, V]``, or ``logprobs`` ``[R]`` of the input
``targets`` (scoring without ever holding ``[R, V]``)."""

TOKEN_IDS, POSITIONS, LOGIT_ROWS, TARGETS = "token_ids", "positions", "logit_rows", "targets"
"""Names of the inputs of every decoder graph, those of the step's fields: ``[T]``, ``[T]``, ``[R]``, ``[R]`` i32."""


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """What every decoder has. ``context_length`` is in tokens."""

    architecture: str
    vocab_size: int
    context_length: int
    num_layers: int
    hidden_size: int


class Model(Protocol):
    """One checkpoint's architecture, ready to trace."""

    @property
    def config(self) -> ModelConfig:
        """The hyper-parameters."""
        ...

    def build(self, *, head: Head) -> Graph:
        """Trace the forward. Cache specs are f32; the precision pass sets their dtype."""
        ...

    def kv_specs(self) -> tuple[KVSpec, ...]:
        """The cache of each layer, as ``build`` states it."""
        ...

    def ignorable_names(self) -> Sequence[str]:
        """Tensors that the checkpoint may hold and the graph does not read."""
        ...


class Family(Protocol):
    """A module of ``models/``: one forward, for one or more architecture names."""

    ARCHITECTURES: tuple[str, ...]
    """Values of ``general.architecture`` in GGUF files."""

    MODEL_TYPES: tuple[str, ...]
    """Values of ``model_type`` in ``config.json``."""

    GGUF_RENAMES: Sequence[Rename]
    """Tensors of GGUF files that the forward has under other names, or in parts."""

    HF: HFLayout
    """How checkpoints look in the layout of the transformers library."""

    def parse(self, metadata: Metadata, store: WeightStore) -> Model:
        """The model of a checkpoint.

        Raises InvalidModel for a hyper-parameter that is absent or out of bounds, UnsupportedModel for an option that
        this forward does not have.
        """
        ...
