"""Loads a model for a verb, with progress on standard error where something takes time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lepton_ai.config import Policy
from lepton_ai.phases import PhaseObserver
from lepton_ai.weights.sources.progress import Progress

if TYPE_CHECKING:
    from lepton_ai.engine.llm import LLM


def open_llm(
    model: str,
    *,
    threads: int | None,
    policy: Policy,
    allow_config_keys: Sequence[str] | None = None,
    max_num_seqs: int | None = None,
    max_model_len: int | None = None,
    kv_dtype: str | None = None,
    kv_memory_bytes: int | None = None,
    on_phase: PhaseObserver | None = None,
) -> LLM:
    """The model of a verb's options. Raises like ``LLM``."""
    from lepton_ai.engine.llm import LLM  # verbs that only fetch should not wait for it

    return LLM(
        model,
        num_threads=threads,
        policy=policy,
        max_num_seqs=max_num_seqs,
        max_model_len=max_model_len,
        kv_memory_bytes=kv_memory_bytes,
        kv_dtype=kv_dtype,
        allow_config_keys=allow_config_keys or (),
        progress=OnDemandProgress(),
        on_phase=on_phase,
    )


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
