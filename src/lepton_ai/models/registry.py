"""Architecture name -> family module, imported when first asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Final, cast

from lepton_ai.errors import UnsupportedModel
from lepton_ai.models.base import Family, Model
from lepton_ai.models.metadata import Metadata
from lepton_ai.weights.store import WeightStore

FAMILIES: Final = {"llama": "llama", "qwen2": "llama"}
"""``general.architecture`` -> module in this package."""


def family(architecture: str) -> Family:
    """The family that runs ``architecture``. Raises UnsupportedModel naming those that are known."""
    module = FAMILIES.get(architecture)
    if module is None:
        known = ", ".join(sorted(FAMILIES))
        raise UnsupportedModel(
            f"general.architecture: expected one of {known}, got {architecture[:64]!r}", param="model"
        )
    return cast(Family, import_module(f"lepton_ai.models.{module}"))


def load_model(metadata: Metadata, store: WeightStore) -> Model:
    """The model of a checkpoint, from its metadata and tensor shapes. Raises InvalidModel or UnsupportedModel."""
    return family(metadata.get_str("general.architecture")).parse(metadata, store)
