"""A model says the same on each instruction set that this machine runs: those that are not chosen by themselves too."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.parity.golden_file import Golden

from lepton_ai import LLM, SamplingParams
from lepton_ai.backends.cpu import _native

GREEDY = SamplingParams(temperature=0.0, max_tokens=4)


def continuation(model_path: Path, prompt: list[int], isa: str) -> tuple[int, ...]:
    """What the model says after ``prompt``, quantised activations and cache included."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEPTON_CPU_ISA", isa)
        with LLM(model_path, policy="auto", max_model_len=64) as llm:
            assert llm.model_info.isa == isa
            (completion,) = llm.generate([prompt], GREEDY)
    return tuple(completion.token_ids)


def test_each_instruction_set_says_what_the_generic_one_says(model_path: Path, golden: Golden) -> None:
    prompt = golden.prompts[0].tolist()
    wanted = continuation(model_path, prompt, "generic")
    assert len(wanted) == GREEDY.max_tokens
    for isa in _native.available_isas():
        assert continuation(model_path, prompt, isa) == wanted, isa
