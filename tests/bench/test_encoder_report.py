from __future__ import annotations

import io
import json

from bench.encoder_report import (
    COLUMNS,
    EncoderReport,
    EncoderRow,
    MeasuredEngine,
    cells,
    print_table,
    to_json,
    to_markdown,
)
from bench.pairs import PairedRates
from bench.serving import EngineInfo
from rich.console import Console

OURS = MeasuredEngine(EngineInfo("Lepton fast", "1.0", "avx2", 2, ""), 0.99987)


def peer(name: str, version: str) -> MeasuredEngine:
    return MeasuredEngine(EngineInfo(name, version, "", 2, ""), 0.98765)


def report() -> EncoderReport:
    rows = (
        EncoderRow("1x16", peer("A int8", "A 1"), PairedRates((300.0, 200.0, 100.0), (100.0, 100.0, 100.0))),
        EncoderRow("1x16", peer("A f32", "A 1"), PairedRates((300.0,), (200.0,))),
        EncoderRow("1x16", peer("B int8", "B 2"), PairedRates((300.0,), (400.0,))),
    )
    return EncoderReport(OURS, 3, 200, "A f32", rows)


def test_cells_stand_under_their_columns() -> None:
    assert len(cells(report(), report().rows[0])) == len(COLUMNS)
    assert cells(report(), report().rows[0]) == (
        *("1x16", "200", "0.9999"),
        *("A int8", "100", "0.9877", "2.00 (1.00-3.00)"),
    )


def test_markdown_names_each_version_once() -> None:
    lines = to_markdown(report()).splitlines()
    assert lines[0] == "Lepton fast avx2, A 1, B 2; 2 threads each, 3 interleaved pairs"
    assert [line.count("|") for line in lines[2:7]] == [len(COLUMNS) + 1] * 5
    assert lines[-1].endswith("with the vectors of A f32, over 200 sentences.")


def test_table_prints_every_row() -> None:
    stream = io.StringIO()
    print_table(report(), Console(file=stream, width=200))
    assert stream.getvalue().count("1x16") == 3


def test_json_holds_the_figures() -> None:
    data = json.loads(json.dumps(to_json(report())))
    assert data["lepton"] == {
        "name": "Lepton fast",
        "version": "1.0",
        "isa": "avx2",
        "num_threads": 2,
        "least_cosine": 0.99987,
    }
    assert [row["ratio"] for row in data["rows"]] == [2.0, 1.5, 0.75]
    assert data["rows"][0]["ratios_range"] == [1.0, 3.0]
    assert data["rows"][0]["peer"]["name"] == "A int8"
    assert (data["reference"], data["num_sentences"]) == ("A f32", 200)
