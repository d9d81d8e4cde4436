"""What an engine has done and holds, as typed objects that loggers and monitors take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any

from lepton_ai.engine.histogram import Distribution, Histogram

STEP_TOKENS_BOUNDS = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
"""Those of vLLM."""

# fmt: off
LATENCY_BOUNDS_S = (
    0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0,
    60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0,
)
# fmt: on
"""Those of vLLM for times of requests, and finer ones below."""


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Counts since the model was loaded, and the state now.

    ``prompt_tokens`` are those of the requests that were let in, ``cached_tokens`` the part of them whose KV was found.
    ``computed_tokens`` went through the model, those computed again after a pre-emption included. ``finished`` counts
    requests by ``finish_reason``. Paused ones wait for readers who are behind. Of ``kv_blocks``, ``kv_blocks_used`` are
    held by requests, both of the KV group of which the largest share is held: which one that is may change, and groups
    differ in size.

    ``step_tokens`` are those that each step computed. ``queue_s`` is how long requests waited until they were let in
    first. Of those that have ended, ``prefill_s`` is the time from there until their prompt was computed, ``decode_s``
    from there to the end if any token was chosen, and ``inference_s`` both; times of being pre-empted or paused are
    part of them.
    """

    num_running: int
    num_waiting: int
    num_paused: int
    num_steps: int
    num_preemptions: int
    prompt_tokens: int
    cached_tokens: int
    computed_tokens: int
    output_tokens: int
    finished: Mapping[str, int]
    kv_blocks: int
    kv_blocks_used: int
    step_tokens: Distribution
    queue_s: Distribution
    prefill_s: Distribution
    decode_s: Distribution
    inference_s: Distribution

    @property
    def kv_usage(self) -> float:
        """The share of the fullest KV group that requests hold, 0 to 1."""
        return self.kv_blocks_used / self.kv_blocks


@dataclass(slots=True)
class Counters:
    """What the scheduler counts as it goes."""

    num_steps: int = 0
    num_preemptions: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    computed_tokens: int = 0
    output_tokens: int = 0
    finished: dict[str, int] = field(default_factory=dict)
    step_tokens: Histogram = field(default_factory=partial(Histogram, STEP_TOKENS_BOUNDS))
    queue_s: Histogram = field(default_factory=partial(Histogram, LATENCY_BOUNDS_S))
    prefill_s: Histogram = field(default_factory=partial(Histogram, LATENCY_BOUNDS_S))
    decode_s: Histogram = field(default_factory=partial(Histogram, LATENCY_BOUNDS_S))
    inference_s: Histogram = field(default_factory=partial(Histogram, LATENCY_BOUNDS_S))

    def finish(self, reason: str) -> None:
        """One request more that ended so."""
        self.finished[reason] = self.finished.get(reason, 0) + 1

    def snapshot(self) -> dict[str, Any]:
        """The fields that ``EngineStats`` has of it, as they are now."""
        return {each.name: _as_of_now(getattr(self, each.name)) for each in fields(self)}


def _as_of_now(value: int | dict[str, int] | Histogram) -> int | dict[str, int] | Distribution:
    match value:
        case Histogram():
            return value.snapshot()
        case dict():
            return dict(value)
        case _:
            return value
