"""What is measured of a model in the server's process: latencies as tokens arrive, and how requests end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

from lepton_ai.engine.histogram import Histogram
from lepton_ai.engine.observer import Observe
from lepton_ai.engine.outputs import Usage
from lepton_ai.engine.request import FinishReason
from lepton_ai.engine.stats import LATENCY_BOUNDS_S
from lepton_ai.errors import LeptonError

# fmt: off
FIRST_TOKEN_BOUNDS_S = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0,
    640.0, 2560.0,
)
"""Those of vLLM."""

INTER_TOKEN_BOUNDS_S = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0,
    40.0, 80.0,
)
# fmt: on
"""Those of vLLM, and three finer ones."""


class ModelMeter:
    """Histograms of completions, and counts by how they ended. One that was refused is in none.

    Latencies and numbers of tokens are those of completions that came to an end of their own: one whose client leaves
    after a second tells nothing of how long it would have taken.
    """

    def __init__(self, *, max_model_len: int) -> None:
        self.first_token_s = Histogram(FIRST_TOKEN_BOUNDS_S)
        self.inter_token_s = Histogram(INTER_TOKEN_BOUNDS_S)
        self.latency_s = Histogram(LATENCY_BOUNDS_S)
        self.prompt_tokens = Histogram(one_two_five(max_model_len))
        self.output_tokens = Histogram(one_two_five(max_model_len))
        self.ended = dict.fromkeys(FinishReason, 0)

    def begin(self) -> Observe:
        """For a request that comes now: makes an observer for each of its completions."""
        begun_s = time.monotonic()
        return lambda: _CompletionMeter(self, begun_s)

    @contextmanager
    def encoding(self) -> Iterator[None]:
        """Measures a request to an encoder."""
        begun_s = time.monotonic()
        try:
            yield
        except asyncio.CancelledError:
            self.ended[FinishReason.CANCELLED] += 1
            raise
        except Exception as error:
            if not isinstance(error, LeptonError) or error.status >= 500:
                self.ended[FinishReason.ERROR] += 1
            raise
        self.ended[FinishReason.STOP] += 1
        self.latency_s.observe(time.monotonic() - begun_s)


class _CompletionMeter:
    """A GenerationObserver."""

    __slots__ = ("_begun_s", "_last_s", "_meter")

    def __init__(self, meter: ModelMeter, begun_s: float) -> None:
        self._meter = meter
        self._begun_s = begun_s
        self._last_s: float | None = None

    def on_token(self, at_s: float) -> None:
        if self._last_s is None:
            self._meter.first_token_s.observe(at_s - self._begun_s)
        else:
            self._meter.inter_token_s.observe(at_s - self._last_s)
        self._last_s = at_s

    def on_end(self, at_s: float, reason: FinishReason, usage: Usage) -> None:
        meter = self._meter
        meter.ended[reason] += 1
        if reason in (FinishReason.STOP, FinishReason.LENGTH):
            meter.latency_s.observe(at_s - self._begun_s)
            meter.prompt_tokens.observe(usage.prompt_tokens)
            meter.output_tokens.observe(usage.completion_tokens)


def one_two_five(most: int) -> tuple[int, ...]:
    """1, 2, 5, 10, 20, 50 and so on up to ``most``."""
    return tuple(n * 10**power for power in range(len(str(most))) for n in (1, 2, 5) if n * 10**power <= most)
