"""What a model family is: a module that reads a checkpoint's hyper-parameters and traces its forward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias

from lepton_ai.errors import InvalidRequest
from lepton_ai.models.decoder import DecoderModel
from lepton_ai.models.encoder import EncoderModel
from lepton_ai.models.metadata import Metadata
from lepton_ai.weights.renamed import Rename
from lepton_ai.weights.store import WeightStore

if TYPE_CHECKING:
    from lepton_ai.models.hf import HFLayout

Model: TypeAlias = DecoderModel | EncoderModel
"""One checkpoint's architecture, ready to trace."""


def as_decoder(model: Model) -> DecoderModel:
    """``model`` if it generates. Raises InvalidRequest for an encoder."""
    if isinstance(model, EncoderModel):
        raise not_a_decoder(model)
    return model


def not_a_decoder(model: Model) -> InvalidRequest:
    """The error for a model that should generate and does not."""
    return InvalidRequest(
        f"model: expected one that generates, got {model.config.architecture}, an encoder: it embeds and classifies",
        param="model",
    )


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
