from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from tests.models.tiny import MemoryStore, step, tiny_model

from lepton_ai.backends.cpu import _native
from lepton_ai.backends.cpu.backend import CpuBackend
from lepton_ai.backends.cpu.device import CpuDevice
from lepton_ai.backends.cpu.executable import CpuExecutable
from lepton_ai.config import Limits, Policy
from lepton_ai.models.base import Head
from lepton_ai.weights.formats import WeightType
from lepton_ai.weights.packed import PackedCache

MODEL, STORE = tiny_model()
LIMITS = Limits(max_tokens=8, max_rows=8, max_seqs=2, max_model_len=128)
TOKENS = [3, 1, 4, 1, 5]


@dataclass
class Notes:
    """A Progress that remembers what was packed and what was said."""

    packed: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def start(self, label: str, *, total_bytes: int, done_bytes: int) -> None:
        self.packed.append(label)

    def update(self, done_bytes: int) -> None: ...

    def describe(self, text: str) -> None:
        self.said.append(text)

    def finish(self) -> None: ...


@pytest.mark.parametrize("weight_type", list(WeightType))
def test_panels_have_the_size_of_the_file(weight_type: WeightType) -> None:
    kind = _native.panel_kind(weight_type.value, narrowing="none")
    assert _native.matrix_bytes(kind, 48, 512) == weight_type.num_bytes((48, 512))


@pytest.fixture(scope="module")
def device() -> CpuDevice:
    return CpuDevice(num_threads=2)


@dataclass
class Machine:
    """A device with a packed cache; each backend is like a new process."""

    device: CpuDevice
    cache: PackedCache
    notes: Notes = field(default_factory=Notes)

    def backend(self) -> CpuBackend:
        return CpuBackend(self.device, cache=self.cache, progress=self.notes)


@pytest.fixture
def machine(device: CpuDevice, tmp_path: Path) -> Machine:
    return Machine(device, PackedCache(tmp_path))


def compiled(
    backend: CpuBackend, store: MemoryStore = STORE, head: Head = "logits", policy: Policy = Policy.EXACT
) -> CpuExecutable:
    return backend.compile(MODEL.build(head=head), store, LIMITS, policy=policy)


def logits(executable: CpuExecutable) -> list[float]:
    cache = CpuBackend(executable._device).allocate_kv(MODEL.kv_specs(), [1])
    tensors = executable.run(step([(0, TOKENS, [0])]), cache).result().tensors
    return [float(value) for value in tensors["logits"].ravel()]


def files(cache: PackedCache) -> list[Path]:
    return sorted(cache.folder.glob("*.pack"))


def test_weights_are_packed_once_and_then_read(machine: Machine) -> None:
    first = logits(compiled(machine.backend()))
    assert machine.notes.packed == ["packing weights"] and len(files(machine.cache)) == 1
    assert logits(compiled(machine.backend())) == first == logits(compiled(CpuBackend(machine.device)))
    assert machine.notes.packed == ["packing weights"] and machine.notes.said == []


def test_heads_that_read_the_same_weights_share_their_memory(machine: Machine) -> None:
    backend = machine.backend()
    executables = [compiled(backend, head=head) for head in ("logits", "logprobs")]
    memories = [executable._weights.memory for executable in executables]
    assert memories[0] is memories[1]
    other = compiled(backend, policy=Policy.FAST)
    assert other._weights.memory is not memories[0] and len(files(machine.cache)) == 2


def test_memory_is_let_go_with_the_last_of_its_graphs(machine: Machine) -> None:
    backend = machine.backend()
    memory, panels = backend.device.memory, backend.device.panels
    executable = compiled(backend)
    assert len(panels) == 1 and memory.used_bytes == executable.arena_bytes + executable._weights.memory.num_bytes
    del executable
    assert len(panels) == 0 and memory.used_bytes == 0


def test_a_weight_that_is_set_is_set_for_one_graph(machine: Machine) -> None:
    backend = machine.backend()
    changed, unchanged = compiled(backend), compiled(backend)
    before = logits(unchanged)
    for name in ("output.weight", "output_norm.weight"):
        changed.set_weight(name, np.zeros(STORE.get(name).shape, np.float32))
    assert set(logits(changed)) == {0.0} and logits(unchanged) == before
    assert logits(compiled(machine.backend())) == before


@pytest.mark.parametrize("keep", [0, 100, -1])
def test_a_damaged_file_is_packed_anew(machine: Machine, keep: int) -> None:
    first = logits(compiled(machine.backend()))
    (path,) = files(machine.cache)
    os.truncate(path, keep if keep >= 0 else path.stat().st_size + keep)
    assert logits(compiled(machine.backend())) == first
    assert machine.notes.packed == ["packing weights"] * 2


def test_weights_are_packed_anew_where_their_file_cannot_be_mapped(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: int) -> None:
        raise OSError(errno.ENODEV, "no such device")

    first = logits(compiled(machine.backend()))
    with monkeypatch.context() as patch:
        patch.setattr(_native, "MappedPanels", refuse)
        assert logits(compiled(machine.backend())) == first
    assert machine.notes.packed == ["packing weights"] * 2


def test_a_home_that_takes_no_file_is_said_and_the_model_runs(device: CpuDevice, tmp_path: Path) -> None:
    (tmp_path / "packed").touch()
    machine = Machine(device, PackedCache(tmp_path))
    assert logits(compiled(machine.backend())) == logits(compiled(CpuBackend(device)))
    assert len(machine.notes.said) == 1 and machine.notes.said[0].startswith("packed weights are not kept: ")
