"""scripts/soak_engine.py: that it would see what it looks for."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
from rich.progress import Progress
from scripts import soak_engine as script
from scripts.soak.memory import growth
from tests.engine.tiny_gguf import VOCAB_SIZE, tiny_gguf

GOOD: dict[str, object] = {
    "requests": 9,
    "answered_once": 9,
    "errors": [],
    "left_over": False,
    "preemptions": 3,
    "different_alone": 0,
    "memory_growth": -0.001,
}


def test_specs_are_those_of_the_seed_and_of_all_shapes() -> None:
    specs = script.make_specs(300, 2000, seed=4)
    assert specs == script.make_specs(300, 2000, seed=4) != script.make_specs(300, 2000, seed=5)
    assert 10 < sum(s.cancel_after is not None for s in specs) < 60
    assert {s.options.tenant for s in specs} == {"a", "b", "c"}
    assert any(s.params.constraint for s in specs) and any(s.params.temperature == 0 for s in specs)


def test_growth_is_from_the_second_quarter_to_the_last() -> None:
    assert growth([1, 1, 100, 100, 105, 105, 110, 110]) == pytest.approx(0.1)


def test_good_figures_pass() -> None:
    assert script.passed(GOOD)


@pytest.mark.parametrize(
    "change",
    [
        {"answered_once": 8},
        {"errors": ["x"]},
        {"left_over": True},
        {"preemptions": 0},
        {"different_alone": 1},
        {"memory_growth": 0.02},
    ],
    ids=str,
)
def test_bad_figures_do_not(change: dict[str, object]) -> None:
    assert not script.passed({**GOOD, **change})


def test_a_short_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEPTON_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(script, "_FIRST_ORDINARY_ID", VOCAB_SIZE // 2)
    model = tiny_gguf(tmp_path / "tiny.gguf")
    options = argparse.Namespace(model=model, requests=40, threads=8, alone=20, kv_mib=1, seed=0, max_model_len=256)
    figures = script.run(options, Progress(disable=True))
    assert figures["answered_once"] == 40 and figures["errors"] == [] and figures["different_alone"] == 0
    assert figures["left_over"] is False and figures["compared_alone"] == 20
