from __future__ import annotations

import io

import pytest
from rich.console import Console

from lepton_ai.cli.output import format_bytes
from lepton_ai.cli.progress import BarProgress, LineProgress, pull_progress


def test_a_bar_shows_bytes_rate_and_time_left() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100, legacy_windows=False)
    bar = BarProgress(console)
    bar.start("tiny [red]x[/red]", total_bytes=4_000_000, done_bytes=1_000_000)
    bar.update(2_000_000)
    bar._bar.refresh()
    bar.describe("unpacking")
    bar.finish()
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "tiny [red]x[/red]" in text and "2.0/4.0 MB" in text and "unpacking" in text


def test_what_was_there_before_does_not_count_as_speed() -> None:
    bar = BarProgress(Console(file=io.StringIO(), force_terminal=True))
    bar.start("tiny", total_bytes=10_000, done_bytes=9_000)
    assert bar._bar.tasks[0].completed == 9_000
    assert not bar._bar.tasks[0].speed
    bar.finish()


def test_lines_say_each_step_once(capsys: pytest.CaptureFixture[str]) -> None:
    lines = LineProgress()
    lines.start("fetching tiny", total_bytes=4_000_000, done_bytes=0)
    lines.update(1_000_000)
    lines.describe("checking")
    lines.describe("checking")
    lines.start("fetching tiny", total_bytes=4_000_000, done_bytes=2_000_000)
    lines.finish()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "fetching tiny: 4 MB in all",
        "checking",
        "fetching tiny: 4 MB in all, from 2 MB",
    ]


def test_a_log_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    assert isinstance(pull_progress(), LineProgress)


@pytest.mark.parametrize(("num_bytes", "text"), [(0, "0 MB"), (98_362_432, "98 MB"), (1_117_320_768, "1.1 GB")])
def test_format_bytes(num_bytes: int, text: str) -> None:
    assert format_bytes(num_bytes) == text
