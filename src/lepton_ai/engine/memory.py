"""How much memory there is, and how much of it the KV cache gets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lepton_ai.backends.base import BLOCK_SIZE
from lepton_ai.engine.kv_manager import num_blocks_for
from lepton_ai.errors import InvalidRequest, OutOfMemory
from lepton_ai.graph.attrs import KVSpec

_DEFAULT_TOKENS = 16384
_DEFAULT_SHARE = 4


@dataclass(frozen=True, slots=True)
class KVPlan:
    """Size of the KV cache. ``max_model_len`` is the longest request, prompt and output."""

    num_blocks: int
    max_model_len: int


def plan_kv(
    specs: Sequence[KVSpec],
    context_length: int,
    available_bytes: int,
    *,
    max_num_seqs: int,
    max_model_len: int | None = None,
    kv_memory_bytes: int | None = None,
) -> KVPlan:
    """Choose the number of KV blocks.

    ``kv_memory_bytes`` None takes room for ``max_num_seqs`` requests of ``max_model_len``; if that is None too, for one
    full context or 16,384 tokens, whichever is more; but at most a quarter of ``available_bytes``. ``max_model_len``
    None takes the model's ``context_length``, or less if memory holds less.
    Raises InvalidRequest for numbers out of range, OutOfMemory if the memory does not hold ``max_model_len``.
    """
    if max_model_len is not None and not 2 <= max_model_len <= context_length:
        raise InvalidRequest(
            f"max_model_len: expected 2 to {context_length}, the model's context, got {max_model_len}",
            param="max_model_len",
        )
    length = max_model_len or context_length
    block_bytes = BLOCK_SIZE * sum(spec.bytes_per_token for spec in specs)
    if kv_memory_bytes is None:
        wanted = max(length, _DEFAULT_TOKENS) if max_model_len is None else max_num_seqs * length
        num_blocks = min(num_blocks_for(wanted), available_bytes // _DEFAULT_SHARE // block_bytes)
    else:
        num_blocks = kv_memory_bytes // block_bytes
    # The KV of a request's last token is never computed.
    longest = min(length, num_blocks * BLOCK_SIZE + 1)
    if num_blocks < 1 or (max_model_len is not None and longest < max_model_len):
        raise OutOfMemory(
            f"kv_memory_bytes: {length} tokens need {num_blocks_for(length - 1) * block_bytes} bytes, "
            f"there are {num_blocks * block_bytes}",
            param="kv_memory_bytes",
        )
    return KVPlan(num_blocks, longest)


def available_memory_bytes(proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Memory this process could take now: what the machine has to spare, within the limit of its control group."""
    fields = dict(line.split(":", 1) for line in (proc / "meminfo").read_text().splitlines())
    available = int(fields["MemAvailable"].split()[0]) * 1024
    for limit, usage in (
        (cgroup / "memory.max", cgroup / "memory.current"),
        (cgroup / "memory/memory.limit_in_bytes", cgroup / "memory/memory.usage_in_bytes"),
    ):
        try:
            available = min(available, max(0, int(limit.read_text()) - int(usage.read_text())))
        except (OSError, ValueError):  # no such version of control groups, or no limit ("max")
            continue
    return available
