from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.cli.conftest import Lepton

from lepton_ai.backends.cpu import _native
from lepton_ai.backends.cpu.backend import CpuBackend
from lepton_ai.backends.cpu.device import CpuDevice, choose_isa
from lepton_ai.cli import doctor, kernel_rates
from lepton_ai.cli.kernel_rates import (
    LIMIT_ROWS,
    NUM_ROWS,
    Bandwidth,
    KernelRate,
    MachineLimits,
    ThreadBandwidth,
    measure_bandwidth,
    measure_limits,
    measure_linear,
    measure_product,
)
from lepton_ai.config import Policy
from lepton_ai.weights.formats import WeightType


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Replaces the measurements, which take seconds; the list gets the number of threads of each."""
    asked: list[int] = []

    def kernels(isas: Sequence[str], num_threads: int) -> list[KernelRate]:
        asked.append(num_threads)
        return [KernelRate("Q4_0", isa, n, 1e9 * n + i) for i, isa in enumerate(isas) for n in NUM_ROWS]

    monkeypatch.setattr(doctor, "measure_kernels", kernels)
    monkeypatch.setattr(doctor, "measure_bandwidth", lambda device: Bandwidth(14e9, 100e9))
    return asked


def test_the_kernels_are_measured() -> None:
    backend = CpuBackend(CpuDevice(num_threads=1))
    for weight_type in (WeightType.Q4_0, WeightType.Q6_K, WeightType.F32):
        for num_rows in NUM_ROWS:
            assert 1e7 < measure_linear(backend, weight_type, num_rows) < 1e14


def test_the_bandwidth_is_measured() -> None:
    bandwidth = measure_bandwidth(CpuDevice(num_threads=1))
    assert 1e7 < bandwidth.memory_bytes_per_s < 1e13
    assert 1e7 < bandwidth.cache_bytes_per_s < 1e14


@pytest.mark.parametrize("policy", [Policy.EXACT, Policy.AUTO])
def test_the_kernel_alone_is_measured(policy: Policy) -> None:
    backend = CpuBackend(CpuDevice(num_threads=2))
    for weight_type in (WeightType.Q4_0, WeightType.F16):
        assert 1e7 < measure_product(backend, weight_type, 64, policy) < 1e14


def test_limits_are_those_of_each_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_rates, "measure_product", lambda backend, kind, n: 1e9 * n)
    limits = measure_limits("generic", 2)
    assert [each.num_threads for each in limits.reads] == [1, 2]
    assert all(1e7 < each.bandwidth.cache_bytes_per_s < 1e14 for each in limits.reads)
    assert [(rate.weight_type, rate.num_rows, rate.macs_per_s) for rate in limits.products] == [
        (kind.value, n, 1e9 * n) for kind in WeightType for n in LIMIT_ROWS
    ]


def test_limits_are_shown_when_asked_for(
    lepton: Lepton, quick: list[int], monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    def limits(isa: str, num_threads: int) -> MachineLimits:
        reads = [ThreadBandwidth(n, Bandwidth(7e9 * n, 50e9 * n)) for n in range(1, num_threads + 1)]
        return MachineLimits(reads, [KernelRate("Q4_0", isa, n, 1e9 * n) for n in LIMIT_ROWS])

    monkeypatch.setattr(doctor, "measure_limits", limits)
    *_, reads, products = lepton("doctor", "--threads", "2", "--limits").out.split("\n\n")
    assert [line.split() for line in reads.splitlines()[1:]] == [["1", "7.0", "50.0"], ["2", "14.0", "100.0"]]
    header, rates = products.splitlines()
    assert header.split()[-len(LIMIT_ROWS) :] == [f"x{n}" for n in LIMIT_ROWS]
    assert rates.split() == ["Q4_0", *(f"{n}.0" for n in LIMIT_ROWS)]
    value = lepton("doctor", "--threads", "1", "--limits", "--json").json()["limits"]
    assert isinstance(value, dict) and len(value["reads"]) == 1 and len(value["products"]) == len(LIMIT_ROWS)
    assert lepton("doctor", "--json").json()["limits"] is None


def test_for_people(lepton: Lepton, quick: list[int], home: Path) -> None:
    result = lepton("doctor", "--threads", "1")
    assert (result.status, result.err, quick) == (0, "", [1])
    fields = dict(line.split("  ", 1) for line in result.out.partition("\n\n")[0].splitlines())
    assert fields["threads"].strip() == "1: --threads asks for them"
    assert fields["read from memory"].strip() == "14.0 GB/s"
    assert fields["home"].strip().startswith(f"{home}, writable")
    best = choose_isa(None)
    assert fields["instruction set"].strip().startswith(f"{best}: the best")
    assert f"{best}* x1  {best}* x64" in result.out
    assert "\nQ4_0 " in result.out


def test_what_is_not_yet_measured_is_said(
    lepton: Lepton, quick: list[int], monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    monkeypatch.setattr(_native, "available_isas", lambda: ["i8mm", "neondot", "generic"])
    fields = dict(line.split("  ", 1) for line in lepton("doctor").out.partition("\n\n")[0].splitlines())
    assert fields["kernels for"].strip() == "i8mm (not yet measured), neondot (not yet measured), generic"
    assert fields["instruction set"].strip() == "generic: the best measured one that this machine runs"
    processor = lepton("doctor", "--json").json()["processor"]
    assert isinstance(processor, dict) and processor["unmeasured_isas"] == ["i8mm", "neondot"]


def test_as_json(lepton: Lepton, quick: list[int], monkeypatch: pytest.MonkeyPatch, home: Path, tmp_path: Path) -> None:
    monkeypatch.setenv("LEPTON_CPU_ISA", "generic")
    monkeypatch.setenv("LEPTON_NUM_THREADS", "2")
    monkeypatch.setenv("LEPTON_INDEX_URL", "https://me:hunter2@index.example/simple")
    result = lepton("doctor", "--json")
    value = result.json()
    assert value["isa"] == {"value": "generic", "reason": "LEPTON_CPU_ISA asks for it"}
    assert value["threads"] == {"value": "2", "reason": "LEPTON_NUM_THREADS asks for them"}
    assert value["index"] == {"urls": ["https://index.example/simple"], "problem": None}
    assert value["bandwidth"] == {"memory_bytes_per_s": 14e9, "cache_bytes_per_s": 100e9}
    assert isinstance(value["kernels"], list) and len(value["kernels"]) == len(NUM_ROWS) * len(_native.available_isas())
    assert "hunter2" not in result.out


def test_an_instruction_set_that_is_not_there(
    lepton: Lepton, quick: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEPTON_CPU_ISA", "sse9")
    result = lepton("doctor")
    assert result.status == 1 and "sse9" in result.err and "[hardware_unsupported]" in result.err


def test_what_is_wrong_with_the_home_is_said(lepton: Lepton, quick: list[int], home: Path) -> None:
    home.write_text("a file where a folder should be")
    out = lepton("doctor").out
    assert f"not writable: {home} is not a folder" in out
    assert "in memory, made at each start" in out
