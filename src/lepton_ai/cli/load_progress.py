"""How far a load is, on standard error: a bar with the time that is left, or in a log a line for each load."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lepton_ai.cli.output import print_note
from lepton_ai.loadgen.run import Progress as ProgressProtocol

_REFRESH_S = 0.5
"""Seldom: the bar is drawn by the process that measures."""


def load_progress() -> ProgressProtocol:
    """What fits standard error."""
    console = Console(stderr=True)
    return LoadBar(console) if console.is_terminal else LoadLines()


class LoadLines:
    """One line whenever a load begins."""

    def start(self, label: str, total: float) -> None:
        """Says what begins."""
        print_note(f"measuring {label}")

    def update(self, done: float) -> None:
        """Nothing: a log is not a bar."""

    def finish(self) -> None:
        """Nothing."""


class LoadBar:
    """A bar for each load, which goes away at its end. It is drawn when a request ends, by no thread of its own."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: Progress | None = None
        self._drawn_s = 0.0

    def start(self, label: str, total: float) -> None:
        """Show it."""
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            auto_refresh=False,
        )
        self._bar.add_task(label, total=total)
        self._bar.start()

    def update(self, done: float) -> None:
        """Move it."""
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=round(done))
            if time.monotonic() - self._drawn_s >= _REFRESH_S:
                self._drawn_s = time.monotonic()
                self._bar.refresh()

    def finish(self) -> None:
        """Take it away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
