from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from lepton_ai.errors import UnsupportedModel
from lepton_ai.models.registry import FAMILIES, MODEL_TYPES, family, read_model
from lepton_ai.weights.checkpoint import open_checkpoint


@pytest.mark.parametrize("architecture", sorted(FAMILIES))
def test_every_name_leads_to_a_family_that_lists_it(architecture: str) -> None:
    assert architecture in family(architecture).ARCHITECTURES


@pytest.mark.parametrize("model_type", sorted(MODEL_TYPES))
def test_every_model_type_leads_to_a_family_that_lists_it(model_type: str) -> None:
    family = import_module(f"lepton_ai.models.{MODEL_TYPES[model_type]}")
    assert model_type in family.MODEL_TYPES and family.HF.renames


def test_an_unknown_model_type_is_refused_with_those_that_are_known(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "rwkv"}')
    save_file({"a": np.ones(1, np.float32)}, tmp_path / "model.safetensors")
    with (
        open_checkpoint(tmp_path) as checkpoint,
        pytest.raises(UnsupportedModel, match=r"model_type: expected one of .*mistral.*, got 'rwkv'"),
    ):
        read_model(checkpoint)


def test_an_unknown_architecture_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(UnsupportedModel, match=r"expected one of bert, gemma3, gpt2, llama, .*, got 'rwkv'"):
        family("rwkv")


def test_families_are_imported_when_asked_for() -> None:
    program = "import sys, lepton_ai.models.registry; sys.exit('lepton_ai.models.llama' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
