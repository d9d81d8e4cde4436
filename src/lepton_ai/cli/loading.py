"""Loads a model for a verb, with progress on standard error where something takes time."""

from __future__ import annotations

from lepton_ai.weights.sources.progress import Progress


class OnDemandProgress:
    """A progress that appears with the first thing it has to say: most starts have nothing to fetch or pack."""

    def __init__(self) -> None:
        self._shown: Progress | None = None

    def start(self, label: str, *, total_bytes: int, done_bytes: int) -> None:
        """Show it, if it is not there."""
        self._show().start(label, total_bytes=total_bytes, done_bytes=done_bytes)

    def update(self, done_bytes: int) -> None:
        """Move it."""
        self._show().update(done_bytes)

    def describe(self, text: str) -> None:
        """Say what is being done."""
        self._show().describe(text)

    def finish(self) -> None:
        """Take it away."""
        if self._shown is not None:
            self._shown.finish()
            self._shown = None

    def _show(self) -> Progress:
        if self._shown is None:
            from lepton_ai.cli.progress import pull_progress

            self._shown = pull_progress()
        return self._shown
