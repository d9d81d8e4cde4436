"""What an engine has done and holds, as typed objects that loggers and monitors take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Counts since the model was loaded, and the state now.

    ``prompt_tokens`` are those of the requests that were let in, ``cached_tokens`` the part of them whose KV was found.
    ``computed_tokens`` went through the model, those computed again after a pre-emption included. ``finished`` counts
    requests by ``finish_reason``. Paused ones wait for readers who are behind. Of ``kv_blocks``, ``kv_blocks_used`` are
    held by requests, both of the KV group of which the largest share is held: which one that is may change, and groups
    differ in size.
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

    def finish(self, reason: str) -> None:
        """One request more that ended so."""
        self.finished[reason] = self.finished.get(reason, 0) + 1
