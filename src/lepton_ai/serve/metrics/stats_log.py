"""An engine's statistics as a line of text for each interval."""

from __future__ import annotations

from dataclasses import dataclass

from lepton_ai.engine.stats import EngineStats


@dataclass(frozen=True, slots=True)
class _Look:
    at_s: float
    stats: EngineStats


class StatsLog:
    """Lines about one engine. ``name`` is what it is called in them, ``begun_s`` the time from which rates count."""

    def __init__(self, name: str, begun_s: float) -> None:
        self._name = name
        self._begun_s = begun_s
        self._before: _Look | None = None
        self._was_idle = False

    def line(self, at_s: float, stats: EngineStats | None) -> str | None:
        """What has happened since the last line. ``stats`` None: the engine does not answer.

        None if there is nothing new to say: nothing happened, and the last line said so.
        """
        if stats is None:
            return f"{self._name}: the engine does not answer"
        before, self._before = self._before, _Look(at_s, stats)
        if before is not None and before.stats.num_steps > stats.num_steps:  # another engine, which began at 0
            before = None
        seconds = max(at_s - (self._begun_s if before is None else before.at_s), 1e-9)
        prompt, cached, output, preempted = (
            now - (0 if before is None else then)
            for now, then in zip(_counts(stats), _counts(stats if before is None else before.stats), strict=True)
        )
        is_idle = not (prompt or output or stats.num_running or stats.num_waiting or stats.num_paused)
        was_idle, self._was_idle = self._was_idle, is_idle
        if is_idle and was_idle:
            return None
        return (
            f"{self._name}: prompt {prompt / seconds:.1f} tokens/s, generation {output / seconds:.1f} tokens/s, "
            f"running {stats.num_running}, waiting {stats.num_waiting}, paused {stats.num_paused}, "
            f"KV cache {stats.kv_usage:.1%}, prefix cache hits {cached / max(prompt, 1):.1%}, pre-empted {preempted}"
        )


def _counts(stats: EngineStats) -> tuple[int, int, int, int]:
    return stats.prompt_tokens, stats.cached_tokens, stats.output_tokens, stats.num_preemptions
