"""Kernels export their table and nothing else: no wider instruction may reach code that runs on every machine."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

TABLES = {"generic": "kKernelsGeneric", "avx2": "kKernelsAvx2", "avx512": "kKernelsAvx512"}
BUILD = Path(__file__).parents[2] / "build"


def kernel_objects() -> list[Path]:
    """Object files of kernels in the newest build tree."""
    found = sorted(BUILD.rglob("isa_*.cpp.o"), key=lambda path: path.stat().st_mtime, reverse=True)
    return [path for path in found if path.parent == found[0].parent]


@pytest.mark.parametrize("isa", TABLES)
def test_the_only_global_symbol_is_the_table(isa: str) -> None:
    paths = [path for path in kernel_objects() if path.name == f"isa_{isa}.cpp.o"]
    if not paths or shutil.which("nm") is None:
        pytest.skip("no build tree with objects of kernels for this machine, or no nm to read them")
    listing = subprocess.run(
        ["nm", "--demangle", "--extern-only", "--defined-only", str(paths[0])],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    names = [line.split(maxsplit=2)[2] for line in listing.splitlines()]
    assert names == [f"lepton::{TABLES[isa]}"]
