"""How far trials are, on standard error: a bar with the time that is left, or in a log a line for each number."""

from __future__ import annotations

import time
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from lepton_ai.cli.output import print_note

_REFRESH_S = 0.5
"""Seldom: the bar is drawn by the process that measures."""


class TuneProgress(Protocol):
    """What trials tell who waits."""

    def start(self, expected_s: float) -> None:
        """They take about so long."""

    def describe(self, text: str) -> None:
        """What is tried now."""

    def advance(self, expected_s: float) -> None:
        """A trial is through that was expected to take so long."""

    def finish(self) -> None:
        """All are."""


def tune_progress() -> TuneProgress:
    """What fits standard error."""
    console = Console(stderr=True)
    return TuneBar(console) if console.is_terminal else TuneLines()


class TuneLines:
    """One line whenever something begins."""

    def start(self, expected_s: float) -> None:
        """Says how long it takes."""
        print_note(f"measuring, for about {expected_s:.0f} seconds")

    def describe(self, text: str) -> None:
        """Says it."""
        print_note(f"trying {text}")

    def advance(self, expected_s: float) -> None:
        """Nothing: a log is not a bar."""

    def finish(self) -> None:
        """Nothing."""


class TuneBar:
    """A bar over all trials, which goes away at the end. It is drawn between them, by no thread of its own."""

    def __init__(self, console: Console) -> None:
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            auto_refresh=False,
        )
        self._task = self._bar.add_task("measuring", total=None)
        self._drawn_s = 0.0

    def start(self, expected_s: float) -> None:
        """Show it."""
        self._bar.update(self._task, total=expected_s)
        self._bar.start()

    def describe(self, text: str) -> None:
        """Change the text before the bar."""
        self._bar.update(self._task, description=f"trying {text}", refresh=True)

    def advance(self, expected_s: float) -> None:
        """Move it."""
        self._bar.advance(self._task, expected_s)
        if time.monotonic() - self._drawn_s >= _REFRESH_S:
            self._drawn_s = time.monotonic()
            self._bar.refresh()

    def finish(self) -> None:
        """Take it away."""
        self._bar.stop()
