"""The devices that kernels are tested on: every instruction set that has kernels, with one thread and with two."""

from __future__ import annotations

import platform

import pytest

from lepton_ai.backends.cpu import _native
from lepton_ai.backends.cpu.device import CpuDevice

_IS_ARM = platform.machine() in ("aarch64", "arm64")
ISAS = ("generic", *(("neondot", "i8mm") if _IS_ARM else ("avx2", "avx512vnni", "amx")))
"""Those that a machine of this kind may have."""


def _device(isa: str, num_threads: int) -> CpuDevice:
    if isa not in _native.available_isas():
        pytest.skip(f"this machine cannot run {isa}")
    return CpuDevice(num_threads=num_threads, isa=isa)


@pytest.fixture(scope="session", params=[(isa, n) for isa in ISAS for n in (1, 2)], ids=lambda p: f"{p[0]}-{p[1]}")
def device(request: pytest.FixtureRequest) -> CpuDevice:
    """A device of each instruction set, with one thread and with two."""
    isa, num_threads = request.param
    return _device(isa, num_threads)


@pytest.fixture(scope="session", params=ISAS)
def single(request: pytest.FixtureRequest) -> CpuDevice:
    """A device of each instruction set, with one thread: where threads make no difference to what is tested."""
    return _device(request.param, 1)
