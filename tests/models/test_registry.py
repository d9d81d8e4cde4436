from __future__ import annotations

import subprocess
import sys

import pytest

from lepton_ai.errors import UnsupportedModel
from lepton_ai.models.registry import FAMILIES, family


@pytest.mark.parametrize("architecture", sorted(FAMILIES))
def test_every_name_leads_to_a_family_that_lists_it(architecture: str) -> None:
    assert architecture in family(architecture).ARCHITECTURES


def test_an_unknown_architecture_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(UnsupportedModel, match=r"expected one of llama, qwen2, got 'rwkv'"):
        family("rwkv")


def test_families_are_imported_when_asked_for() -> None:
    program = "import sys, lepton_ai.models.registry; sys.exit('lepton_ai.models.llama' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
