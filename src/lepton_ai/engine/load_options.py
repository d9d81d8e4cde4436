"""How to run a model: the arguments of ``LLM``, checked."""

from __future__ import annotations

from dataclasses import dataclass, field

from lepton_ai.config import Limits, Policy
from lepton_ai.errors import InvalidRequest
from lepton_ai.weights.sources.progress import NoProgress, Progress

_MAX_REQUESTS = 16
_MIN_ROWS = 64
"""Rows of a step, whatever the number of sequences: who reads the logits of a whole prompt wants many at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """How to run a model: the arguments of ``LLM``. Raises InvalidRequest for a value out of range."""

    num_threads: int | None = None
    policy: Policy = Policy.AUTO
    backend: str = "cpu"
    max_num_seqs: int | None = None
    max_tokens_per_step: int = 512
    max_model_len: int | None = None
    kv_memory_bytes: int | None = None
    allow_config_keys: tuple[str, ...] = ()
    progress: Progress = field(default_factory=NoProgress)

    def __post_init__(self) -> None:
        for name in ("num_threads", "max_num_seqs", "max_tokens_per_step", "max_model_len", "kv_memory_bytes"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise InvalidRequest(f"{name}: expected a positive integer, got {value!r}", param=name)

    @property
    def max_requests(self) -> int:
        """Most generations that run together."""
        return _MAX_REQUESTS if self.max_num_seqs is None else self.max_num_seqs

    def decoder_limits(self, max_model_len: int) -> Limits:
        """The maxima of a decoder's step."""
        return Limits(
            max_tokens=self.max_tokens_per_step,
            max_rows=max(self.max_requests, min(_MIN_ROWS, self.max_tokens_per_step)),
            max_seqs=self.max_requests,
            max_model_len=max_model_len,
        )

    def encoder_limits(self, max_model_len: int) -> Limits:
        """The maxima of an encoder's step, which holds at least one sequence, whole."""
        max_tokens = max(self.max_tokens_per_step, max_model_len)
        return Limits(max_tokens, max_rows=1, max_seqs=self.max_num_seqs or max_tokens, max_model_len=max_model_len)
