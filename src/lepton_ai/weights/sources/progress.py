"""How a long transfer tells whoever waits for it. The command line draws a bar; a library call says nothing."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives the state of one pull. Byte counts are absolute: a transfer that starts over is just a lower count."""

    def start(self, label: str, *, total_bytes: int, done_bytes: int) -> None:
        """The bar begins, or begins again, at ``done_bytes``: what was there before must not count as speed."""
        ...

    def update(self, done_bytes: int) -> None:
        """So much is there now."""
        ...

    def describe(self, text: str) -> None:
        """What is being done now, in a few words."""
        ...

    def finish(self) -> None:
        """The pull has ended, well or not. Called once, also when ``start`` never was."""
        ...


class NoProgress:
    """A Progress that says nothing."""

    def start(self, label: str, *, total_bytes: int, done_bytes: int) -> None:
        """Nothing."""

    def update(self, done_bytes: int) -> None:
        """Nothing."""

    def describe(self, text: str) -> None:
        """Nothing."""

    def finish(self) -> None:
        """Nothing."""


class Bar:
    """Places the bytes of one transfer within those of the whole model."""

    def __init__(self, progress: Progress, label: str, *, before_bytes: int, total_bytes: int) -> None:
        self._progress = progress
        self._label = label
        self._before_bytes = before_bytes
        self._total_bytes = total_bytes
        self._last_bytes = -1

    def on_bytes(self, num_bytes: int) -> None:
        """So many bytes of this transfer are there; fewer than before when it starts over."""
        done = self._before_bytes + num_bytes
        if self._last_bytes < 0 or num_bytes < self._last_bytes:
            self._progress.start(self._label, total_bytes=self._total_bytes, done_bytes=done)
        else:
            self._progress.update(done)
        self._last_bytes = num_bytes
