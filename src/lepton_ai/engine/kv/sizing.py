"""How much memory there is, and how much of it the KV cache gets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lepton_ai.backends.base import BLOCK_SIZE
from lepton_ai.engine.kv.group import KVGroup, most_useful, num_blocks_for
from lepton_ai.errors import InvalidRequest, OutOfMemory
from lepton_ai.graph.attrs import KVSpec, kv_groups

_DEFAULT_TOKENS = 16384
_DEFAULT_SHARE = 4


@dataclass(frozen=True, slots=True)
class KVPlan:
    """Size of the KV cache: blocks of each KV group. ``max_model_len`` is the longest request, prompt and output."""

    num_blocks: tuple[int, ...]
    max_model_len: int


def plan_kv(
    specs: Sequence[KVSpec],
    context_length: int,
    available_bytes: int,
    *,
    max_num_seqs: int,
    max_tokens_per_step: int,
    max_model_len: int | None = None,
    kv_memory_bytes: int | None = None,
) -> KVPlan:
    """Choose the number of blocks of each KV group: the same of all, but in a group with a window no more than of use.

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
    groups = [
        _Group(
            spec.window,
            block_bytes=BLOCK_SIZE * len(layers) * spec.bytes_per_token,
            max_blocks=most_useful(spec.window, max_num_seqs=max_num_seqs, step_tokens=max_tokens_per_step),
        )
        for spec, layers in kv_groups(specs).items()
    ]
    if kv_memory_bytes is None:
        if max_model_len is None:
            wanted = num_blocks_for(max(length, _DEFAULT_TOKENS))
        else:
            wanted = max_num_seqs * num_blocks_for(length)  # no two requests share their last blocks
        num_blocks = min(wanted, _most_blocks(groups, available_bytes // _DEFAULT_SHARE))
    else:
        num_blocks = _most_blocks(groups, kv_memory_bytes)
    counts = [group.count(num_blocks) for group in groups]
    capacities = [
        KVGroup(count, group.window).capacity(step_tokens=max_tokens_per_step)
        for count, group in zip(counts, groups, strict=True)
    ]
    longest = min(length, min(capacities) + 1)  # the KV of a request's last token is never computed
    if num_blocks < 1 or (max_model_len is not None and longest < max_model_len):
        raise OutOfMemory(
            f"kv_memory_bytes: {length} tokens need {_num_bytes(groups, num_blocks_for(length - 1))} bytes, "
            f"there are {_num_bytes(groups, num_blocks)}",
            param="kv_memory_bytes",
        )
    return KVPlan(tuple(counts), longest)


@dataclass(frozen=True, slots=True)
class _Group:
    """A KV group before its size is known: it gets at most ``max_blocks`` blocks."""

    window: int | None
    block_bytes: int
    max_blocks: int

    def count(self, num_blocks: int) -> int:
        """What it gets of ``num_blocks``."""
        return min(num_blocks, self.max_blocks)


def _num_bytes(groups: Sequence[_Group], num_blocks: int) -> int:
    return sum(group.count(num_blocks) * group.block_bytes for group in groups)


def _most_blocks(groups: Sequence[_Group], budget_bytes: int) -> int:
    """The most blocks of which each group gets its count within the budget."""
    fixed_bytes, growing = 0, sorted(groups, key=lambda group: group.max_blocks)
    while True:
        most = (budget_bytes - fixed_bytes) // sum(group.block_bytes for group in growing)
        smallest = growing[0]
        if most <= smallest.max_blocks:
            return most
        if len(growing) == 1:
            return smallest.max_blocks
        fixed_bytes += smallest.max_blocks * smallest.block_bytes
        growing = growing[1:]


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
