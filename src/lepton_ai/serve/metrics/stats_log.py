"""An engine's statistics as a line of text for each interval."""

from __future__ import annotations

from typing import NamedTuple

from lepton_ai.engine.stats import EngineStats


class _Counts(NamedTuple):
    steps: int = 0
    prompt: int = 0
    cached: int = 0
    output: int = 0
    preempted: int = 0

    @classmethod
    def of(cls, stats: EngineStats) -> _Counts:
        return cls(
            stats.num_steps, stats.prompt_tokens, stats.cached_tokens, stats.output_tokens, stats.num_preemptions
        )


class StatsLog:
    """Lines about one engine, called ``name`` in them, whose first interval begins at ``begun_s``."""

    def __init__(self, name: str, begun_s: float) -> None:
        self._name = name
        self._looked_s = begun_s
        self._counts = _Counts()
        self._was_idle = False

    def line(self, at_s: float, stats: EngineStats | None) -> str | None:
        """What has happened since the last line. ``stats`` None: the engine does not answer.

        None if nothing happened, and the last line said so.
        """
        if stats is None:
            return f"{self._name}: the engine does not answer"
        now = _Counts.of(stats)
        before = self._counts if self._counts.steps <= now.steps else _Counts()  # an engine that began anew
        seconds = at_s - self._looked_s
        self._looked_s, self._counts = at_s, now
        _, prompt, cached, output, preempted = (b - a for a, b in zip(before, now, strict=True))
        is_idle = not (prompt or output or stats.num_running or stats.num_waiting or stats.num_paused)
        was_idle, self._was_idle = self._was_idle, is_idle
        if is_idle and was_idle:
            return None
        return (
            f"{self._name}: prompt {prompt / seconds:.1f} tokens/s, generation {output / seconds:.1f} tokens/s, "
            f"running {stats.num_running}, waiting {stats.num_waiting}, paused {stats.num_paused}, "
            f"KV cache {stats.kv_usage:.1%}, prefix cache hits {cached / max(prompt, 1):.1%}, pre-empted {preempted}"
        )
