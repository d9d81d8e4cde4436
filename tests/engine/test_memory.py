from __future__ import annotations

from pathlib import Path

import pytest

from lepton_ai.engine.memory import KVPlan, available_memory_bytes, plan_kv
from lepton_ai.errors import InvalidRequest, OutOfMemory
from lepton_ai.graph.attrs import KVSpec

SPECS = (KVSpec(num_heads=2, head_dim=4),) * 3
BLOCK_BYTES = 16 * 3 * (2 * 2 * 4 * 4)
PLENTY = 1 << 40


def plan(context: int = 1000, available: int = PLENTY, *, seqs: int = 4, **given: int) -> KVPlan:
    return plan_kv(SPECS, context, available, max_num_seqs=seqs, **given)


def test_default_is_a_context_or_16384_tokens() -> None:
    assert plan() == KVPlan(1024, 1000)
    assert plan(40000) == KVPlan(2500, 40000)


def test_default_takes_a_quarter_of_what_there_is_and_shortens_the_context() -> None:
    assert plan(available=4 * 10 * BLOCK_BYTES) == KVPlan(10, 161)


def test_a_given_length_has_room_for_all_requests() -> None:
    assert plan(max_model_len=100) == KVPlan(25, 100)


def test_a_given_budget() -> None:
    assert plan(kv_memory_bytes=3 * BLOCK_BYTES + 1) == KVPlan(3, 49)
    assert plan(kv_memory_bytes=3 * BLOCK_BYTES, max_model_len=49) == KVPlan(3, 49)


def test_too_little_memory() -> None:
    with pytest.raises(OutOfMemory, match=f"50 tokens need {4 * BLOCK_BYTES} bytes, there are {3 * BLOCK_BYTES}"):
        plan(kv_memory_bytes=3 * BLOCK_BYTES, max_model_len=50)
    with pytest.raises(OutOfMemory):
        plan(kv_memory_bytes=BLOCK_BYTES - 1)
    with pytest.raises(OutOfMemory):
        plan(available=4 * BLOCK_BYTES - 1)


@pytest.mark.parametrize("length", [1, 1001])
def test_length_out_of_range(length: int) -> None:
    with pytest.raises(InvalidRequest, match="max_model_len: expected 2 to 1000"):
        plan(max_model_len=length)


def test_available_memory_is_what_the_control_group_leaves(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 2000 kB\nMemAvailable:    1000 kB\nHugePages_Total: 0\n")
    assert available_memory_bytes(tmp_path, tmp_path / "absent") == 1000 * 1024
    (tmp_path / "memory.current").write_text("600\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert available_memory_bytes(tmp_path, tmp_path) == 1000 * 1024
    (tmp_path / "memory.max").write_text("1600\n")
    assert available_memory_bytes(tmp_path, tmp_path) == 1000
