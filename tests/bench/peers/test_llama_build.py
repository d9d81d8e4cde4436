from __future__ import annotations

import pytest
from bench.peers.llama_build import check_build

FULL = "CPU : SSE3 = 1 | AVX = 1 | AVX2 = 1 | AVX512 = 0 | OPENMP = 1 | REPACK = 1 | "


def test_what_is_on_is_named() -> None:
    assert check_build(FULL, "x86_64") == ["SSE3", "AVX", "AVX2", "OPENMP", "REPACK"]
    assert check_build("CPU : NEON = 1 | REPACK = 1 | ", "aarch64") == ["NEON", "REPACK"]


@pytest.mark.parametrize(
    ("system_info", "machine", "missing"),
    [
        (FULL.replace("REPACK = 1", "REPACK = 0"), "x86_64", "REPACK"),
        (FULL.replace("AVX2 = 1 | ", ""), "x86_64", "AVX2"),
        (FULL, "aarch64", "NEON"),
        ("", "x86_64", "AVX2 and REPACK"),
    ],
)
def test_a_build_without_its_fast_kernels_is_refused(system_info: str, machine: str, missing: str) -> None:
    with pytest.raises(RuntimeError, match=f"built without {missing}: it has"):
        check_build(system_info, machine)
