"""``--timing``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.cli.conftest import Lepton
from tests.engine.published import SENTENCE_FILES, published_bert, write_files
from tests.engine.tiny_gguf import tiny_gguf

from lepton_ai.cli import timing
from lepton_ai.cli.timing import StartTiming, process_age_s
from lepton_ai.phases import Phase, phase

LOADING = ["device", "open", "tokenizer", "graph", "weights", "program"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_gguf(tmp_path_factory.mktemp("model") / "tiny.gguf"))


def test_phases_of_an_answer(lepton: Lepton, model: str) -> None:
    result = lepton("run", model, "--prompt", "hello", "--max-tokens", "2", "--timing")
    assert result.status == 0
    table = result.err[result.err.index("phase ") :].splitlines()
    names = [line[:12].rstrip() for line in table]
    assert names[:3] == ["phase", "interpreter", "imports"] and sorted(names[3:9]) == sorted(LOADING)
    assert names[9:] == ["prompt", "first step", "other", "total"]
    assert [line.endswith("beside the others") for line in table] == [name == "tokenizer" for name in names]


def test_phases_as_json(lepton: Lepton, model: str) -> None:
    plain = lepton("run", model, "--prompt", "hello", "--max-tokens", "2", "--json").json()
    assert "timing" not in plain
    rows = lepton("run", model, "--prompt", "hello", "--max-tokens", "2", "--json", "--timing").json()["timing"]
    assert isinstance(rows, list)
    seconds = {row["phase"]: row["seconds"] for row in rows}
    begins = [row["begin_s"] for row in rows[:-2]]
    assert begins == sorted(begins) and begins[0] == 0.0
    parts = sum(spent for name, spent in seconds.items() if name not in ("total", "tokenizer"))
    assert parts == pytest.approx(seconds["total"])


def test_phases_of_vectors(lepton: Lepton, tmp_path: Path) -> None:
    encoder_model = str(write_files(tmp_path / "sentences", published_bert() | SENTENCE_FILES))
    result = lepton("embed", encoder_model, "hello", "--json", "--timing")
    assert [row["phase"] for row in json.loads(result.out)["timing"]][-3:] == ["vectors", "other", "total"]
    assert "timing" not in json.loads(lepton("embed", encoder_model, "hello", "--json").out)


def test_a_conversation_has_no_timing(lepton: Lepton, model: str) -> None:
    result = lepton("run", model, "--timing")
    assert result.status == 2 and "--timing: expected it with --prompt" in result.err


def test_phases_of_one_name_are_added(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr(timing, "process_age_s", lambda: 2.0)
    monkeypatch.setattr(timing, "BEGIN_S", 99.0)
    monkeypatch.setattr(time, "perf_counter", lambda: now_s)
    start = StartTiming(is_wanted=True)
    assert start.observer is not None
    for name, begin_s, end_s in (("graph", 101.0, 101.5), ("weights", 101.5, 103.0), ("graph", 104.0, 105.0)):
        start.observer(Phase(name, begin_s, end_s))
    start.observer(Phase("tokenizer", 100.5, 104.5))
    assert start.rows() == [
        ("interpreter", 0.0, 1.0),
        ("imports", 1.0, 1.0),
        ("tokenizer", 2.5, 4.0),
        ("graph", 3.0, 1.5),
        ("weights", 3.5, 1.5),
        ("other", 0.0, 2.0),
        ("total", 0.0, 7.0),
    ]


def test_nothing_is_timed_that_is_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> float:
        raise AssertionError("a clock was read")

    monkeypatch.setattr(time, "perf_counter", fail)
    start = StartTiming(is_wanted=False)
    assert start.observer is None
    with start.phase("prompt"), phase("graph", None):
        pass


def test_a_phase_that_fails_is_not_told() -> None:
    told: list[Phase] = []
    with pytest.raises(ZeroDivisionError), phase("graph", told.append):
        raise ZeroDivisionError
    assert told == []


def test_the_age_of_a_process() -> None:
    code = "from lepton_ai.cli.timing import process_age_s; print(process_age_s())"
    before = time.perf_counter()
    age_s = float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)
    assert 0.005 < age_s < time.perf_counter() - before + 0.01


@pytest.mark.parametrize(
    ("schedstat", "expected_s"),
    [("2004000000 1000000 7", 2.005), ("5000000000 0 7", 2.01), ("1000000 0 7", 2.0), (None, 2.0)],
)
def test_the_age_lies_within_a_tick(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, schedstat: str | None, expected_s: float
) -> None:
    tick_s = 1 / os.sysconf("SC_CLK_TCK")
    monkeypatch.setattr(time, "clock_gettime", lambda _: 50.0)
    created = round((50.0 - 2.0 - tick_s) / tick_s)
    (tmp_path / "stat").write_text("1 (a ) b) S " + "0 " * 18 + f"{created} 0 0")
    if schedstat is not None:
        (tmp_path / "schedstat").write_text(schedstat)
    assert process_age_s(tmp_path) == pytest.approx(expected_s)
