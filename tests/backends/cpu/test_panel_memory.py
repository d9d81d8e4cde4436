"""Packed weights are mapped, and moved into huge pages while steps run."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from tests.weights.packed_cases import KEY

from lepton_ai.backends.cpu import _native, panel_memory
from lepton_ai.backends.cpu.memory import HUGE_PAGE_BYTES, MemoryBudget
from lepton_ai.backends.cpu.panel_memory import PanelMemory
from lepton_ai.errors import OutOfMemory
from lepton_ai.weights.packed import PackedCache

NUM_BYTES = 5 * HUGE_PAGE_BYTES + 12_345
LONG_S = 60.0


@pytest.fixture
def content() -> npt.NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 256, NUM_BYTES, np.uint8)


@pytest.fixture
def cache(tmp_path: Path, content: npt.NDArray[np.uint8]) -> PackedCache:
    cache = PackedCache(tmp_path)
    with cache.create(KEY, {"data": NUM_BYTES}) as writer:
        payload = np.zeros(writer.layout.payload_bytes, np.uint8)
        payload[:NUM_BYTES] = content
        writer.commit(payload)
    return cache


def mapped(cache: PackedCache, budget: MemoryBudget | None = None, *, begins: bool = False) -> PanelMemory:
    packed = cache.open(KEY)
    assert packed is not None
    with packed:
        return PanelMemory.map(budget or MemoryBudget(), packed, begins=begins)


def mapped_bytes(path: Path) -> int:
    """Bytes of this process's memory that are the file's."""
    ranges = re.findall(rf"^(\w+)-(\w+) .*{re.escape(path.name)}$", Path("/proc/self/maps").read_text(), re.MULTILINE)
    return sum(int(end, 16) - int(begin, 16) for begin, end in ranges)


def file_of(cache: PackedCache) -> Path:
    (path,) = cache.folder.glob("*.pack")
    return path


def test_what_was_mapped_stays_what_it_is_while_it_moves(cache: PackedCache, content: npt.NDArray[np.uint8]) -> None:
    memory = mapped(cache)
    address, whole = memory.data.ctypes.data, mapped_bytes(file_of(cache))
    assert address % 64 == 0 and memory.num_bytes <= whole
    assert np.array_equal(memory.data[:NUM_BYTES], content)
    memory.settle(0.0)
    assert mapped_bytes(file_of(cache)) == whole and not memory.is_settled
    memory.settle(1e-9)
    assert mapped_bytes(file_of(cache)) == whole - HUGE_PAGE_BYTES and not memory.is_settled
    memory.settle(LONG_S)
    assert memory.is_settled and mapped_bytes(file_of(cache)) < 2 * HUGE_PAGE_BYTES
    assert memory.data.ctypes.data == address and np.array_equal(memory.data[:NUM_BYTES], content)
    memory.settle(LONG_S)


def test_a_thread_begins_with_it(cache: PackedCache, content: npt.NDArray[np.uint8]) -> None:
    memory = mapped(cache, begins=True)
    deadline = time.monotonic() + LONG_S
    while mapped_bytes(file_of(cache)) >= 2 * HUGE_PAGE_BYTES:
        assert np.array_equal(memory.data[:NUM_BYTES], content)
        assert time.monotonic() < deadline
    assert np.array_equal(memory.data[:NUM_BYTES], content) and not memory.is_settled
    memory.settle(0.0)
    assert memory.is_settled


def test_the_thread_ends_with_the_first_step(cache: PackedCache) -> None:
    for _ in range(20):
        memory = mapped(cache, begins=True)
        memory.settle(0.0)
        left = mapped_bytes(file_of(cache))
        memory.settle(0.0)
        assert mapped_bytes(file_of(cache)) == left
        del memory
        assert mapped_bytes(file_of(cache)) == 0


def test_calls_take_no_more_time_than_they_grant(cache: PackedCache) -> None:
    memory = mapped(cache)
    granted_s, begin = 0.0, time.perf_counter()
    moved, before = 0, mapped_bytes(file_of(cache))
    while not memory.is_settled:
        memory.settle(1e-6)
        granted_s += 1e-6
        after = mapped_bytes(file_of(cache))
        moved, before = moved + (after < before), after
    assert moved == 5 or time.perf_counter() - begin < granted_s


@pytest.mark.parametrize("seconds", [0.0, 1e-9, LONG_S])
def test_all_of_it_is_let_go(cache: PackedCache, seconds: float) -> None:
    budget = MemoryBudget(1 << 30)
    memory = mapped(cache, budget)
    assert budget.used_bytes == memory.num_bytes
    memory.settle(seconds)
    view = memory.data[:10]
    before = _address_space_bytes()
    del memory
    assert budget.used_bytes == 0 and view.sum() >= 0
    address = view.ctypes.data
    del view
    assert mapped_bytes(file_of(cache)) == 0
    assert not _is_mapped(address) and _address_space_bytes() <= before


def test_a_budget_that_is_too_small(cache: PackedCache) -> None:
    budget = MemoryBudget(NUM_BYTES // 2)
    with pytest.raises(OutOfMemory, match="the weights of a model take"):
        mapped(cache, budget)
    assert budget.used_bytes == 0 and mapped_bytes(file_of(cache)) == 0


def test_a_kernel_without_huge_pages(cache: PackedCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(panel_memory, "kernel_gives_them", lambda: False)
    assert mapped(cache).is_settled


def test_what_cannot_be_mapped() -> None:
    reading, writing = os.pipe()
    with pytest.raises(OSError) as raised:
        _native.MappedPanels(descriptor=reading, offset=0, num_bytes=100)
    assert raised.value.errno
    os.close(reading)
    os.close(writing)


def _is_mapped(address: int) -> bool:
    for line in Path("/proc/self/maps").read_text().splitlines():
        begin, end = (int(number, 16) for number in line.split()[0].split("-"))
        if begin <= address < end:
            return True
    return False


def _address_space_bytes() -> int:
    """Address space of this process."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * 4096
