"""Who wants to know when the tokens of a generation come: meters, outside of the engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

from lepton_ai.engine.outputs import Usage
from lepton_ai.engine.request import FinishReason


class GenerationObserver(Protocol):
    """Told of one generation by the thread that receives its tokens, not by who reads them.

    That thread serves everybody: a call takes about a microsecond, and raises nothing. Times are those of
    ``time.monotonic``; tokens that came together have the same.
    """

    def on_token(self, at_s: float) -> None:
        """A token has come."""
        ...

    def on_end(self, at_s: float, reason: FinishReason, usage: Usage) -> None:
        """Nothing more comes: once, after the last token; never if the engine refused the request."""
        ...


Observe: TypeAlias = Callable[[], GenerationObserver]
"""Makes an observer for each completion of a request."""
