"""The fuzzer finds nothing in the readers, and finds each kind of fault that is planted."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from ctypes import Array, c_uint64
from pathlib import Path

import pytest
from scripts.fuzz import FORMATS, INPUTS_PER_PROCESS, fuzz, limit_memory
from tests.weights import fuzzing

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", FORMATS)
def test_two_thousand_inputs(name: str) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(ROOT / "scripts" / "fuzz.py"), name, "--inputs", "2000", "--seed", "0"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("2000 inputs: ")
    num_read = int(result.stdout.split()[2])
    assert num_read > 100  # most mutations are refused, but the values behind the header must be reached too


@pytest.mark.parametrize("name", FORMATS)
def test_the_files_before_mutation_are_good(tmp_path: Path, name: str) -> None:
    target = fuzzing.make_target(name)
    for base in target.bases():
        (tmp_path / "m").write_bytes(base)
        assert target.read(tmp_path / "m")


@pytest.mark.parametrize("name", FORMATS)
def test_an_input_is_reproducible(name: str) -> None:
    target = fuzzing.make_target(name)
    first = [fuzzing.make_input(target, 3, index) for index in range(50)]
    assert first[17] == fuzzing.make_input(fuzzing.make_target(name), 3, 17)
    assert len(set(first)) > 35 and first[17] != fuzzing.make_input(target, 4, 17)


def _raise(seed: int, first: int, count: int, counts: Array[c_uint64]) -> None:
    counts[0], counts[1] = first + 5, 5
    sys.exit(1)


def _hang(seed: int, first: int, count: int, counts: Array[c_uint64]) -> None:
    counts[0], counts[1] = first + 5, 5
    signal.setitimer(signal.ITIMER_PROF, 0.05)
    while True:
        pass


def _crash(seed: int, first: int, count: int, counts: Array[c_uint64]) -> None:
    counts[0], counts[1] = first + 5, 5
    os.kill(os.getpid(), signal.SIGKILL)


def _stop_early(seed: int, first: int, count: int, counts: Array[c_uint64]) -> None:
    counts[0], counts[1] = first + 5, 5


@pytest.mark.parametrize(
    ("worker", "message"),
    [
        (_raise, "an exception that is not a LeptonError"),
        (_hang, "took too long"),
        (_crash, "ended the process by SIGKILL"),
        (_stop_early, ""),
    ],
)
def test_a_fault_is_reported_with_the_input(
    capfd: pytest.CaptureFixture[str], worker: Callable[[int, int, int, Array[c_uint64]], None], message: str
) -> None:
    assert fuzz(worker, "gguf", seed=7, first=100, count=20) == 1
    captured = capfd.readouterr()
    assert captured.out.startswith("5 inputs: 0 read, 5 refused")
    assert f"input 105 of seed 7: {message}" in captured.err
    assert "gguf --seed 7 --first 105 --inputs 1" in captured.err


def _read_all(seed: int, first: int, count: int, counts: Array[c_uint64]) -> None:
    counts[0] = first + count - 1
    counts[2] += count * (counts[1] == 0 and count <= INPUTS_PER_PROCESS)


def test_many_inputs_are_shared_out_among_processes(capfd: pytest.CaptureFixture[str]) -> None:
    count = 2 * INPUTS_PER_PROCESS + 1
    assert fuzz(_read_all, "gguf", seed=7, first=100, count=count) == 0
    assert capfd.readouterr().out.startswith(f"{count} inputs: {count} read, 0 refused")


def test_a_foreign_exception_passes_at_its_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    target = fuzzing.make_target("gguf")

    def broken(path: Path) -> bool:
        if len(seen) == 4:
            raise IndexError("planted")
        return True

    def on_input(index: int, is_good: bool | None) -> None:
        if is_good is None:
            seen.append(index)

    monkeypatch.setattr(target, "read", broken)
    with pytest.raises(IndexError, match="planted"):
        fuzzing.run(target, tmp_path, seed=0, first=10, count=100, on_input=on_input)
    signal.setitimer(signal.ITIMER_PROF, 0)
    assert seen == [10, 11, 12, 13]


def _allocate(num_bytes: int) -> None:
    limit_memory(32 << 20)
    try:
        bytearray(num_bytes)
    except MemoryError:
        sys.exit(3)


@pytest.mark.parametrize(("num_bytes", "exit_code"), [(4 << 20, 0), (64 << 20, 3)])
def test_memory_is_limited(num_bytes: int, exit_code: int) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_allocate, args=(num_bytes,))
    process.start()
    process.join()
    assert process.exitcode == exit_code
