from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from bench.model_files import ModelFile
from bench.peers.cases import STARTS, Case, Table, Target
from bench.peers.first_token import Round, Start, StartFailed
from bench.peers.launches import as_rates, launch, launch_pairs
from bench.peers.outcomes import Results, Verdict
from bench.peers.report import cells, heads
from bench.peers.subjects import SMOLLM2
from bench.peers.workloads import FIRST_TOKEN, PEAK_MEMORY
from tests.bench.peers.results import measurement

from bench.peers import engines, launches

FILE = ModelFile(Path("model.gguf"), "digest", 100, 4.5, 8.5)
PAIRS = [(Round(0.1, 0.25, 10**8), Round(0.1, 0.5, 4 * 10**8)), (Round(0.1, 0.5, 10**8), Round(0.1, 0.5, 2 * 10**8))]


def case(target: Target) -> Case:
    return Case(
        table=Table.STARTS,
        subject=SMOLLM2,
        workload=FIRST_TOKEN,
        ours=engines.LEPTON,
        theirs=engines.ONE_SECOND,
        target=target,
    )


def python(text: str) -> Start:
    return Start("Python", (sys.executable, "-c", text))


def test_less_is_better() -> None:
    seconds, memory = as_rates(PAIRS, FIRST_TOKEN), as_rates(PAIRS, PEAK_MEMORY)
    assert (seconds.ours, seconds.theirs, seconds.ratio) == ((4.0, 2.0), (2.0, 2.0), 1.5)
    assert memory.ratio == 3.0
    assert as_rates([(ours, None) for ours, _ in PAIRS], FIRST_TOKEN).ratio == 3.0


def test_a_process_is_watched_to_its_end() -> None:
    done = launch(python("import time; block = b'x' * 200_000_000; print('hi', flush=True); time.sleep(0.2)"))
    assert 0 < done.first_s < done.seconds - 0.15
    assert 200e6 < done.rss_bytes < 300e6


def test_what_a_benchmark_has_grown_to_is_not_counted() -> None:
    grown = b"x" * 300_000_000
    done = launch(python("block = b'x' * 100_000_000; print('hi')"))
    assert 100e6 < done.rss_bytes < len(grown)


def test_a_process_that_fails_is_an_error() -> None:
    with pytest.raises(StartFailed, match="Python: status 3"):
        launch(python("raise SystemExit(3)"))
    with pytest.raises(StartFailed, match="no script that prints its first token"):
        launch_pairs(replace(case(Target()), theirs=engines.LEPTON_EXACT), FILE, 1, 1)


def test_engines_take_turns_after_one_pair_that_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    launched: list[str] = []

    def fake(start: Start) -> Round:
        launched.append(start.engine)
        return Round(0.1, float(len(launched)), 1)

    monkeypatch.setattr(launches, "launch", fake)
    monkeypatch.setattr(launches, "_start", lambda engine, model, file, threads: Start(engine.name, ()))
    pairs = launch_pairs(replace(case(Target()), theirs=engines.LLAMA_CPP), FILE, 1, 2)
    assert launched == ["Lepton", "llama.cpp"] * 3
    assert [(ours.seconds, theirs and theirs.seconds) for ours, theirs in pairs] == [(3.0, 4.0), (5.0, 6.0)]


def test_limits_in_seconds_stand_in_the_table() -> None:
    subject, must_s, goal_s = STARTS[0]
    alone = case(Target(1 / must_s, 1 / goal_s))
    rates = as_rates([(Round(0.1, 0.45, 1), None)] * 3, FIRST_TOKEN)
    results = Results((alone,), {alone.name: replace(measurement(1.0), rates=rates)})
    assert results.verdict(alone) == Verdict(must=True, goal=False)
    named = dict(zip(heads(Table.STARTS), cells(results, alone), strict=True))
    assert (named["Lepton"], named["peer"], named["peer's"]) == ("0.45 s", "-", "-")
    assert (named["must"], named["goal"]) == ("0.55 s reached", "0.4 s missed")
    assert subject is SMOLLM2
