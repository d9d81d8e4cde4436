"""How to run a model: the arguments of ``LLM``, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

from lepton_ai.config import Environment, Limits, Policy
from lepton_ai.errors import InvalidRequest
from lepton_ai.graph.attrs import KV_DTYPES
from lepton_ai.graph.tensor import DType
from lepton_ai.phases import PhaseObserver
from lepton_ai.weights.sources.progress import NoProgress, Progress

if TYPE_CHECKING:
    from lepton_ai.engine.device import Device

_MAX_REQUESTS = 16
_MIN_ROWS = 64
"""Rows of a step, whatever the number of sequences: who reads the logits of a whole prompt wants many at once."""


def parse_kv_dtype(name: str | None) -> DType | None:
    """An element type of the KV cache from its name; None leaves it to the policy. Raises InvalidRequest."""
    if name is None:
        return None
    for dtype in KV_DTYPES:
        if dtype.value == name:
            return dtype
    names = ", ".join(dtype.value for dtype in KV_DTYPES)
    raise InvalidRequest(f"kv_dtype: expected one of {names}, got {name!r:.40}", param="kv_dtype")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """How to run a model: the arguments of ``LLM``. Raises InvalidRequest for a value out of range.

    On a ``device`` that models share, threads are the device's.
    """

    num_threads: int | None = None
    policy: Policy = Policy.AUTO
    backend: str = "cpu"
    max_num_seqs: int | None = None
    max_tokens_per_step: int = 512
    max_model_len: int | None = None
    kv_memory_bytes: int | None = None
    kv_dtype: DType | None = None
    allow_config_keys: tuple[str, ...] = ()
    device: Device | None = None
    progress: Progress = field(default_factory=NoProgress)
    on_phase: PhaseObserver | None = None

    def __post_init__(self) -> None:
        for name in ("num_threads", "max_num_seqs", "max_tokens_per_step", "max_model_len", "kv_memory_bytes"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise InvalidRequest(f"{name}: expected a positive integer, got {value!r}", param=name)
        if self.device is not None and (self.num_threads is not None or self.backend != "cpu"):
            name = "backend" if self.num_threads is None else "num_threads"
            raise InvalidRequest(f"{name}: expected none beside a device, which has its own", param=name)

    @classmethod
    def from_values(
        cls,
        values: Mapping[str, object],
        environment: Environment,
        *,
        device: Device | None,
        progress: Progress | None,
        on_phase: PhaseObserver | None = None,
    ) -> LoadOptions:
        """From the arguments of ``LLM`` that are plain values. Raises InvalidRequest for an unknown name."""
        plain = {each.name for each in fields(cls)} - {"device", "progress", "on_phase"}
        if unknown := values.keys() - plain:
            raise InvalidRequest(f"options: expected arguments of LLM, got {min(unknown)!r:.60}", param="options")
        known = dict(values)
        if "policy" in known:
            known["policy"] = Policy.parse(known["policy"])  # type: ignore[arg-type]  # it checks the type
        known["kv_dtype"] = parse_kv_dtype(known.get("kv_dtype"))  # type: ignore[arg-type]  # it checks the type
        if known.get("num_threads") is None and device is None:
            known["num_threads"] = environment.num_threads
        known["allow_config_keys"] = _strings("allow_config_keys", known.get("allow_config_keys", ()))
        watchers = {"progress": progress or NoProgress(), "on_phase": on_phase}
        return cls(**known, device=device, **watchers)  # type: ignore[arg-type]  # checked here

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


def _strings(name: str, value: object) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, list | tuple) or not all(isinstance(v, str) for v in value):
        raise InvalidRequest(f"{name}: expected strings, got {value!r:.60}", param=name)
    return tuple(value)
