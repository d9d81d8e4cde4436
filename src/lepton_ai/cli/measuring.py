"""How far a measurement is, on standard error: a bar with the time that is left, or in a log a line for each part."""

from __future__ import annotations

import time
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from lepton_ai.cli.output import print_note

_REFRESH_S = 0.5
"""Seldom: the bar is drawn by the process that measures."""


class Measuring(Protocol):
    """Who is told how far a measurement is."""

    def start(self, label: str, total: float) -> None:
        """It begins; ``total`` is its requests, or its seconds."""

    def describe(self, text: str) -> None:
        """What is measured now."""

    def update(self, done: float) -> None:
        """So much of the total is done."""

    def finish(self) -> None:
        """It has ended, well or not."""


def measuring(*, counts: bool) -> Measuring:
    """What fits standard error. ``counts``: a bar shows how many of the total are done, else the time that is gone."""
    console = Console(stderr=True)
    return MeasuringBar(console, counts=counts) if console.is_terminal else MeasuringLines()


class MeasuringLines:
    """One line whenever something begins."""

    def start(self, label: str, total: float) -> None:
        """Says what begins."""
        print_note(f"measuring {label}")

    def describe(self, text: str) -> None:
        """Says it."""
        print_note(text)

    def update(self, done: float) -> None:
        """Nothing: a log is not a bar."""

    def finish(self) -> None:
        """Nothing."""


class MeasuringBar:
    """A bar for each measurement, which goes away at its end. It is drawn when a part ends, by no thread of its own."""

    def __init__(self, console: Console, *, counts: bool) -> None:
        self._console = console
        self._counts = counts
        self._bar: Progress | None = None
        self._drawn_s = 0.0

    def start(self, label: str, total: float) -> None:
        """Show it."""
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn() if self._counts else TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            auto_refresh=False,
        )
        self._bar.add_task(label, total=total)
        self._bar.start()

    def describe(self, text: str) -> None:
        """Change the text before the bar."""
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], description=text, refresh=True)

    def update(self, done: float) -> None:
        """Move it."""
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=round(done) if self._counts else done)
            if time.monotonic() - self._drawn_s >= _REFRESH_S:
                self._drawn_s = time.monotonic()
                self._bar.refresh()

    def finish(self) -> None:
        """Take it away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
