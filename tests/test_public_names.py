from __future__ import annotations

import subprocess
import sys

import pytest

import lepton_ai


def test_every_public_name_is_there() -> None:
    for name in lepton_ai.__all__:
        assert getattr(lepton_ai, name) is not None
    assert set(lepton_ai.__all__) <= set(dir(lepton_ai))
    assert lepton_ai.LLM is lepton_ai.LLM


def test_an_unknown_name() -> None:
    with pytest.raises(AttributeError, match="no attribute 'LMM'"):
        lepton_ai.LMM  # noqa: B018


def test_import_is_light() -> None:
    code = "import sys, lepton_ai; print([m for m in ('numpy', 'tokenizers', 'jinja2', 'typer') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout == "[]\n"
