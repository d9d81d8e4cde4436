"""Architecture name -> family module, imported when first asked for."""

from __future__ import annotations

from collections.abc import Collection
from importlib import import_module
from typing import Final, cast

from lepton_ai.errors import UnsupportedModel
from lepton_ai.models.family import Family, Model
from lepton_ai.models.metadata import Metadata
from lepton_ai.weights.checkpoint import Checkpoint
from lepton_ai.weights.folder import CheckpointFolder
from lepton_ai.weights.renamed import RenamedStore
from lepton_ai.weights.store import WeightStore

FAMILIES: Final = {
    "bert": "bert",
    "gemma3": "gemma3",
    "gpt2": "gpt2",
    "llama": "llama",
    "mpnet": "mpnet",
    "olmo2": "olmo2",
    "qwen2": "llama",
    "qwen3": "llama",
}
"""``general.architecture`` of a GGUF file -> module in this package."""

MODEL_TYPES: Final = {
    "bert": "bert",
    "gemma3_text": "gemma3",
    "gpt2": "gpt2",
    "llama": "llama",
    "mistral": "llama",
    "mpnet": "mpnet",
    "olmo2": "olmo2",
    "qwen2": "llama",
    "qwen3": "llama",
}
"""``model_type`` of a ``config.json`` -> module in this package."""


def family(architecture: str) -> Family:
    """The family that runs ``architecture``. Raises UnsupportedModel naming those that are known."""
    module = FAMILIES.get(architecture)
    if module is None:
        known = ", ".join(sorted(FAMILIES))
        raise UnsupportedModel(
            f"general.architecture: expected one of {known}, got {architecture[:64]!r}", param="model"
        )
    return _module(module)


def load_model(metadata: Metadata, store: WeightStore) -> Model:
    """The model of a checkpoint, from its metadata and tensor shapes. Raises InvalidModel or UnsupportedModel."""
    return family(metadata.get_str("general.architecture")).parse(metadata, store)


def read_model(checkpoint: Checkpoint, *, allowed_config_keys: Collection[str] = ()) -> tuple[Model, WeightStore]:
    """The model of a checkpoint of either kind, and its tensors under the names that the model uses.

    ``allowed_config_keys`` are keys of a ``config.json`` that no family knows and that change nothing, as the user
    vouches. Raises InvalidModel, UnsupportedModel or WeightMismatch.
    """
    if not isinstance(checkpoint, CheckpointFolder):
        renames = family(checkpoint.metadata.get_str("general.architecture")).GGUF_RENAMES
        renamed = RenamedStore(checkpoint, renames) if renames else checkpoint
        return load_model(checkpoint.metadata, renamed), renamed
    from lepton_ai.models.hf import translate  # a GGUF file does without them
    from lepton_ai.models.hf_quantization import with_layers

    model_type = checkpoint.config.get("model_type")
    module = MODEL_TYPES.get(model_type) if isinstance(model_type, str) else None
    if module is None:
        known = ", ".join(sorted(MODEL_TYPES))
        raise UnsupportedModel(
            f"{checkpoint.path}: model_type: expected one of {known}, got {model_type!r:.80}", param="model"
        )
    layout = _module(module).HF
    config, layers = with_layers(checkpoint.config, checkpoint, allowed_config_keys)
    metadata, store = translate(layout, config, layers, allowed_config_keys)
    return load_model(metadata, store), store


def _module(name: str) -> Family:
    return cast(Family, import_module(f"lepton_ai.models.{name}"))
