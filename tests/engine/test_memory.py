from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from lepton_ai.engine.kv.sizing import KVPlan, available_memory_bytes, plan_kv
from lepton_ai.errors import InvalidRequest, OutOfMemory
from lepton_ai.graph.attrs import KVSpec

SPECS = (KVSpec(num_heads=2, head_dim=4),) * 3
BLOCK_BYTES = 16 * 3 * (2 * 2 * 4 * 4)
PLENTY = 1 << 40


def plan(context: int = 1000, available: int = PLENTY, *, seqs: int = 4, **given: int) -> KVPlan:
    return plan_kv(SPECS, context, available, max_num_seqs=seqs, max_tokens_per_step=64, **given)


def test_default_is_a_context_or_16384_tokens() -> None:
    assert plan() == KVPlan((1024,), 1000)
    assert plan(40000) == KVPlan((2500,), 40000)


def test_default_takes_a_quarter_of_what_there_is_and_shortens_the_context() -> None:
    assert plan(available=4 * 10 * BLOCK_BYTES) == KVPlan((10,), 161)


def test_a_given_length_has_room_for_all_requests() -> None:
    assert plan(max_model_len=100) == KVPlan((28,), 100)


def test_a_given_budget() -> None:
    assert plan(kv_memory_bytes=3 * BLOCK_BYTES + 1) == KVPlan((3,), 49)
    assert plan(kv_memory_bytes=3 * BLOCK_BYTES, max_model_len=49) == KVPlan((3,), 49)


LAYER_BYTES = BLOCK_BYTES // 3
WINDOWED = KVSpec(num_heads=2, head_dim=4, window=32)
USEFUL = 4 * (2 * 2 + 3) + 4
"""Blocks of a window of 32: four requests with two windows and three blocks each, and a step of 64 tokens."""


def mixed_plan(specs: Sequence[KVSpec], **given: int) -> KVPlan:
    return plan_kv(specs, 1000, PLENTY, max_num_seqs=4, max_tokens_per_step=64, **given)


def test_a_window_gets_what_is_of_use() -> None:
    specs = (SPECS[0], WINDOWED, WINDOWED)
    assert mixed_plan(specs) == KVPlan((1024, USEFUL), 1000)
    assert mixed_plan(specs, max_model_len=100) == KVPlan((28, 28), 100)
    assert mixed_plan(specs[::-1]) == KVPlan((USEFUL, 1024), 1000)


def test_what_a_window_does_not_need_goes_to_the_others() -> None:
    specs = (SPECS[0], WINDOWED, WINDOWED)
    both = USEFUL * BLOCK_BYTES
    assert mixed_plan(specs, kv_memory_bytes=10 * BLOCK_BYTES + 1) == KVPlan((10, 10), 161)
    assert mixed_plan(specs, kv_memory_bytes=both) == KVPlan((USEFUL, USEFUL), 16 * USEFUL + 1)
    assert mixed_plan(specs, kv_memory_bytes=both + LAYER_BYTES - 1) == KVPlan((USEFUL, USEFUL), 16 * USEFUL + 1)
    assert mixed_plan(specs, kv_memory_bytes=both + 5 * LAYER_BYTES) == KVPlan((USEFUL + 5, USEFUL), 16 * USEFUL + 81)
    wider = replace(WINDOWED, window=64)
    three = mixed_plan((WINDOWED, wider, SPECS[0]), kv_memory_bytes=USEFUL * LAYER_BYTES + 2 * 40 * LAYER_BYTES)
    assert three == KVPlan((USEFUL, 40, 40), 641)


def test_windows_alone_bound_no_request_once_a_step_fits() -> None:
    # Two blocks of window, and up to five that a step of 64 tokens reaches into.
    assert mixed_plan((WINDOWED,) * 3, kv_memory_bytes=6 * BLOCK_BYTES) == KVPlan((6,), 97)
    assert mixed_plan((WINDOWED,) * 3, kv_memory_bytes=7 * BLOCK_BYTES) == KVPlan((7,), 1000)
    assert mixed_plan((WINDOWED,) * 3, kv_memory_bytes=PLENTY) == KVPlan((USEFUL,), 1000)
    with pytest.raises(OutOfMemory, match=f"98 tokens need {7 * BLOCK_BYTES} bytes, there are {6 * BLOCK_BYTES}"):
        mixed_plan((WINDOWED,) * 3, kv_memory_bytes=6 * BLOCK_BYTES, max_model_len=98)


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
