from __future__ import annotations

import io

from bench.scaling import DECODE, DECODE_16, PREFILL, table, thread_counts
from rich.console import Console


def test_thread_counts() -> None:
    assert thread_counts(1) == [1]
    assert thread_counts(2) == [1, 2]
    assert thread_counts(6) == [1, 2, 4, 6]
    assert thread_counts(16) == [1, 2, 4, 8, 16]


def test_lines_are_compared_with_the_first() -> None:
    rates = {4: {DECODE_16: 90.0, PREFILL: 400.0, DECODE: 20.0}, 1: {PREFILL: 100.0, DECODE: 10.0, DECODE_16: 30.0}}
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(table(rates))
    text = console.export_text()
    lines = [line.split("│") for line in text.splitlines() if "(" in line and "│" in line]
    assert [[cell.strip() for cell in line[1:-1]] for line in lines] == [
        ["1", "100 (1.0)", "10 (1.0)", "30 (1.0)"],
        ["4", "400 (4.0)", "20 (2.0)", "90 (3.0)"],
    ]
