"""The progress of a pull on standard error: a bar on a terminal, a line per step in a log."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from lepton_ai.cli.output import print_note
from lepton_ai.weights.sources.progress import Progress as ProgressProtocol


def pull_progress() -> ProgressProtocol:
    """What fits standard error."""
    console = Console(stderr=True)
    return BarProgress(console) if console.is_terminal else LineProgress()


class LineProgress:
    """One line whenever something begins."""

    def __init__(self) -> None:
        self._last = ""

    def start(self, label: str, *, total_bytes: int, done_bytes: int) -> None:
        """Says what begins, and from where a resumed transfer goes on."""
        resumed = f", from {done_bytes / 1e6:.0f} MB" if done_bytes else ""
        self.describe(f"{label}: {total_bytes / 1e6:.0f} MB in all{resumed}")

    def update(self, done_bytes: int) -> None:
        """Nothing: a log is not a bar."""

    def describe(self, text: str) -> None:
        """Says it, once."""
        if text != self._last:
            self._last = text
            print_note(text)

    def finish(self) -> None:
        """Nothing."""


class BarProgress:
    """Bytes, rate and the time that is left. The bar goes away at the end."""

    def __init__(self, console: Console) -> None:
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task("connecting", total=None)
        self._bar.start()

    def start(self, label: str, *, total_bytes: int, done_bytes: int) -> None:
        """Begin again, with the rate measured from here on."""
        self._bar.reset(self._task, total=total_bytes, completed=done_bytes, description=label)

    def update(self, done_bytes: int) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=done_bytes)

    def describe(self, text: str) -> None:
        """Change the text before the bar."""
        self._bar.update(self._task, description=text)

    def finish(self) -> None:
        """Take the bar away."""
        self._bar.stop()
