"""What the regions of a device may take together."""

from __future__ import annotations

import pytest

from lepton_ai.backends.cpu.memory import HUGE_PAGE_BYTES, MemoryBudget
from lepton_ai.errors import OutOfMemory


def test_what_is_in_use_counts_until_its_last_view_is_gone() -> None:
    budget = MemoryBudget(1000)
    first, second = budget.zeros(600, "weights"), budget.zeros(300, "keys and values")
    assert first.ctypes.data % HUGE_PAGE_BYTES == 0 and first.nbytes == 600 and not first.any()
    assert (budget.used_bytes, budget.free_bytes) == (900, 100)
    with pytest.raises(OutOfMemory, match="memory_bytes: activations take 101 bytes, 100 of 1000 are left") as raised:
        budget.zeros(101, "activations")
    assert raised.value.param == "memory_bytes" and budget.used_bytes == 900
    view = first[100:200]
    del first
    assert budget.used_bytes == 900
    del view
    assert budget.used_bytes == 300
    budget.zeros(700, "activations")
    assert budget.used_bytes == 300
    del second
    assert budget.free_bytes == 1000


def test_without_a_bound_it_only_counts() -> None:
    budget = MemoryBudget()
    region = budget.zeros(1 << 30, "weights")
    assert budget.used_bytes == region.nbytes == 1 << 30 and budget.free_bytes is None
