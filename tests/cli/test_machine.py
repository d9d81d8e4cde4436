from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from lepton_ai.backends.cpu import _native
from lepton_ai.backends.cpu.device import choose_isa
from lepton_ai.cli import machine
from lepton_ai.cli.machine import Processor
from lepton_ai.config import Environment
from lepton_ai.errors import HardwareUnsupported


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return Environment(home=tmp_path / "home", num_threads=None, cpu_isa=None, index_url=None)


def _processor(*, num_cores: int, num_allowed_cores: int, quota_cores: float | None = None) -> Processor:
    return Processor("a processor", "x86_64", num_cores, num_allowed_cores, quota_cores, ("generic",), ())


def _memory_files(folder: Path, limit: str) -> tuple[Path, Path]:
    proc, cgroup = folder / "proc", folder / "cgroup"
    proc.mkdir()
    cgroup.mkdir()
    (proc / "meminfo").write_text("MemTotal: 1000 kB\nMemFree: 10 kB\nMemAvailable: 600 kB\n")
    (cgroup / "memory.max").write_text(limit)
    (cgroup / "memory.current").write_text("100000\n")
    return proc, cgroup


def test_processor() -> None:
    processor = machine.read_processor()
    assert 1 <= processor.num_allowed_cores <= processor.num_cores
    assert processor.available_isas[-1] == "generic"
    assert processor.name and processor.architecture


@pytest.mark.parametrize(
    ("usable", "processor", "reason"),
    [
        (8, _processor(num_cores=8, num_allowed_cores=8), "one for each core"),
        (2, _processor(num_cores=8, num_allowed_cores=2), "the affinity mask allows no more cores"),
        (2, _processor(num_cores=8, num_allowed_cores=4, quota_cores=1.5), "the control group's quota is 1.5 cores"),
    ],
)
def test_threads_by_default(
    monkeypatch: pytest.MonkeyPatch, environment: Environment, usable: int, processor: Processor, reason: str
) -> None:
    monkeypatch.setattr(machine, "usable_cores", lambda: usable)
    assert machine.choose_threads(processor, environment, None) == machine.Choice(str(usable), reason)


def test_threads_that_are_asked_for(environment: Environment) -> None:
    processor = _processor(num_cores=8, num_allowed_cores=8)
    asked = dataclasses.replace(environment, num_threads=3)
    assert machine.choose_threads(processor, asked, None) == machine.Choice("3", "LEPTON_NUM_THREADS asks for them")
    assert machine.choose_threads(processor, asked, 5) == machine.Choice("5", "--threads asks for them")


def test_instruction_set(environment: Environment) -> None:
    assert machine.choose_instruction_set(environment).value == choose_isa(None)
    forced = dataclasses.replace(environment, cpu_isa="generic")
    assert machine.choose_instruction_set(forced) == machine.Choice("generic", "LEPTON_CPU_ISA asks for it")
    with pytest.raises(HardwareUnsupported, match="sse9"):
        machine.choose_instruction_set(dataclasses.replace(environment, cpu_isa="sse9"))


def test_an_instruction_set_that_is_not_yet_measured(environment: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_native, "available_isas", lambda: ["i8mm", "neondot", "generic"])
    assert machine.read_processor().unmeasured_isas == ("i8mm", "neondot")
    chosen = machine.choose_instruction_set(environment)
    assert chosen == machine.Choice("generic", "the best measured one that this machine runs")
    forced = machine.choose_instruction_set(dataclasses.replace(environment, cpu_isa="i8mm"))
    assert forced == machine.Choice("i8mm", "LEPTON_CPU_ISA asks for it, though it is not yet measured")
    monkeypatch.setattr(_native, "available_isas", lambda: ["avx2", "generic"])
    assert machine.choose_instruction_set(environment) == machine.Choice("avx2", "the best that this machine runs")


@pytest.mark.parametrize(
    ("written", "limit", "available"),
    [("200000\n", 200_000, 100_000), ("max\n", None, 600 * 1024), (f"{(1 << 63) - 4096}\n", None, 600 * 1024)],
)
def test_memory(tmp_path: Path, written: str, limit: int | None, available: int) -> None:
    memory = machine.read_memory(*_memory_files(tmp_path, written))
    assert memory == machine.Memory(1000 * 1024, available, limit)


def test_a_home_that_can_be_written_is_not_created(environment: Environment) -> None:
    storage = machine.read_storage(environment)
    assert storage.problem is None and storage.free_bytes > 0 and storage.packed_bytes == 0
    assert not environment.home.exists()


def test_packed_bytes_are_counted(environment: Environment) -> None:
    (environment.home / "packed").mkdir(parents=True)
    (environment.home / "packed" / "a.pack").write_bytes(b"x" * 1000)
    assert machine.read_storage(environment).packed_bytes == 1000


def test_a_home_that_cannot_be_written(environment: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    environment.home.write_text("a file where a folder should be")
    assert machine.read_storage(environment).problem == f"{environment.home} is not a folder"
    environment.home.unlink()
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may write everywhere
    assert machine.read_storage(environment).problem == f"{environment.home.parent} cannot be written"


def test_the_index_is_shown_without_credentials(environment: Environment) -> None:
    secret = dataclasses.replace(environment, index_url="https://me:hunter2@index.example/simple")
    access = machine.read_index_access(secret)
    assert access == machine.IndexAccess(("https://index.example/simple",), None)


def test_a_malformed_index_is_a_problem_and_no_error(environment: Environment) -> None:
    access = machine.read_index_access(dataclasses.replace(environment, index_url="ftp://index.example"))
    assert access.urls == () and access.problem is not None and "LEPTON_INDEX_URL" in access.problem


def test_versions() -> None:
    assert set(machine.read_versions()) == {"lepton", "python", "numpy", "tokenizers", "jinja2", "rich", "typer"}
