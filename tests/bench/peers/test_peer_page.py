from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from bench.peers.cases import Table, Target
from bench.peers.chart import Bar, draw_ratios
from bench.peers.host import Host
from bench.peers.outcomes import Results
from bench.peers.page import fill, write_page
from tests.bench.peers.results import case, measurement

PAGE = "# Title\n\n<!-- measured:begin a -->\nold\n<!-- measured:end -->\n\nprose\n"
HOST = Host("Processor 9", "x86_64", 2, ("avx2", "generic"), 24 * 10**9)


def test_blocks_are_filled_and_nothing_else_changes() -> None:
    filled = fill(PAGE, {"a": r"| \1 |"})
    assert filled == PAGE.replace("old\n", "\n| \\1 |\n\n")
    assert fill(filled, {"a": "new"}) == PAGE.replace("old\n", "\nnew\n\n")


@pytest.mark.parametrize("names", [["b"], ["a", "b"], []])
def test_a_page_has_just_the_blocks_that_are_written(names: list[str]) -> None:
    with pytest.raises(ValueError, match=r"expected the blocks .*, got a"):
        fill(PAGE, dict.fromkeys(names, ""))


def test_the_page_says_what_was_measured_on_what(tmp_path: Path) -> None:
    path = tmp_path / "benchmarks.md"
    names = [*(table.value for table in Table), "machine"]
    path.write_text("".join(f"<!-- measured:begin {name} -->\n<!-- measured:end -->\n" for name in names))
    generation = case(Target(1.5, 3.0))
    results = Results((generation,), {generation.name: measurement(2.0)})
    write_page(path, results, HOST, num_threads=2, num_pairs=9)
    text = path.read_text()
    assert "- Processor 9, x86_64, 2 cores, 24 GB of memory\n" in text
    assert "- 2 threads each, 9 interleaved pairs, measured 2026-01-02\n" in text
    assert "| 1.5 reached | 3 missed |\n" in text
    assert "(benchmarks-generation.svg)" in text and "encoders.svg" not in text
    picture = (tmp_path / "benchmarks-generation.svg").read_text()
    assert "decode 1, llama.cpp: 2.00 (2.00-2.00)" in picture


def test_a_bar_is_as_long_as_the_logarithm_of_its_ratio() -> None:
    missed = Bar("group", "one", ratio=0.5, low=0.4, high=0.6, must=None, goal=None, is_missed=True)
    bars = [missed, Bar("group", "two", ratio=4.0, low=4.0, high=4.0, must=1.5, goal=2.5, is_missed=False)]
    root = ElementTree.fromstring(draw_ratios("Title & all", bars))
    space = "{http://www.w3.org/2000/svg}"
    widths = {
        rect.get("class"): float(rect.get("width", "0"))
        for rect in root.iter(f"{space}rect")
        if rect.get("class") != "page"
    }
    assert widths["bar"] == pytest.approx(2 * widths["missed"])
    assert len([path for path in root.iter(f"{space}path") if path.get("class") in ("must", "goal")]) == 2
