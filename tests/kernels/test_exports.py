"""Kernels export their table and nothing else: no wider instruction may reach code that runs on every machine."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

TABLES = {
    "generic": "kKernelsGeneric",
    "avx2": "kKernelsAvx2",
    "avx512": "kKernelsAvx512",
    "neondot": "kKernelsNeonDot",
    "i8mm": "kKernelsI8mm",
}
BUILD = Path(__file__).parents[2] / "build"


def newest_object(isa: str) -> Path | None:
    """The object file of an instruction set's kernels that was compiled last."""
    return max(BUILD.rglob(f"isa_{isa}.cpp.o"), key=lambda path: path.stat().st_mtime, default=None)


@pytest.mark.parametrize("isa", TABLES)
def test_the_only_global_symbol_is_the_table(isa: str) -> None:
    path = newest_object(isa)
    if path is None:
        pytest.skip(f"no build tree with the kernels of {isa}")
    nm = "aarch64-linux-gnu-nm" if path.is_relative_to(BUILD / "arm") else "nm"  # scripts/test_arm.py builds there
    if shutil.which(nm) is None:
        pytest.skip(f"no {nm} to read {path.name} with")
    listing = subprocess.run(
        [nm, "--demangle", "--extern-only", "--defined-only", str(path)], check=True, capture_output=True, text=True
    ).stdout
    names = [line.split(maxsplit=2)[2] for line in listing.splitlines()]
    assert names == [f"lepton::{TABLES[isa]}"]
