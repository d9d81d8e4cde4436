from __future__ import annotations

import io
import json
from pathlib import Path

from bench.cases import CASES
from bench.model_files import ModelFile
from bench.pairs import PairedRates
from bench.report import COLUMNS, Report, Row, cells, print_table, to_json, to_markdown
from bench.serving import EngineInfo
from rich.console import Console

from lepton_ai.engine.quality import Divergence

FILE = ModelFile(Path("model.gguf"), "0123456789abcdef", 100, 4.5, 8.5)
CASE = CASES[0]


def row(ratio: float) -> Row:
    rates = PairedRates((ratio * 100,), (100.0,))
    return Row(CASE, FILE, rates, Divergence(0.00123, 0.01, 0.98), None)


def report() -> Report:
    ours = EngineInfo("lepton", "1.0", "avx2", 2, "")
    theirs = EngineInfo("llama.cpp", "peer 2", "SSE3 AVX AVX2 F16C", 2, "")
    return Report(ours, theirs, 9, (row(CASE.target_ratio), row(CASE.target_ratio * 0.99)))


def test_a_target_is_reached_at_its_ratio() -> None:
    assert [r.is_reached for r in report().rows] == [True, False]


def test_cells_stand_under_their_columns() -> None:
    named = dict(zip(COLUMNS, cells(row(3.0)), strict=True))
    assert named["sha256"] == "0123456789ab"
    assert named["body / head bits"] == "4.50 / 8.50"
    assert named["Lepton tok/s"] == "300"
    assert named["llama.cpp tok/s"] == "100"
    assert named["ratio"] == "3.00 (3.00-3.00)"
    assert cells(row(3.0))[5] == "0.0012"
    assert cells(row(3.0))[7] == "-"


def test_markdown_is_one_table_under_a_title() -> None:
    lines = to_markdown(report()).splitlines()
    assert lines[0] == "Lepton avx2, peer 2 AVX2; 2 threads each, 9 interleaved pairs"
    assert [line.count("|") for line in lines[2:6]] == [len(COLUMNS) + 1] * 4


def test_table_prints_every_row() -> None:
    console = Console(file=io.StringIO(), width=200)
    print_table(report(), console)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().count(CASE.workload.name) == 2


def test_json_holds_the_figures() -> None:
    data = json.loads(json.dumps(to_json(report())))
    assert data["rows"][0]["ratio"] == CASE.target_ratio
    assert data["rows"][0]["lepton_kl"] == 0.00123
    assert data["rows"][0]["llama_cpp_kl"] is None
    assert data["llama_cpp"]["version"] == "peer 2"
