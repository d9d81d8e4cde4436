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
