"""Huge pages are asked for where the system has them, and where nobody has said otherwise."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from lepton_ai import huge_pages
from lepton_ai.huge_pages import restart_with_huge_pages, with_huge_pages

WANTED = {"PYTHONMALLOC": "malloc", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}


@pytest.fixture(autouse=True)
def system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """One that has them; the file says in which mode."""
    modes = tmp_path / "enabled"
    modes.write_text("always [madvise] never\n")
    monkeypatch.setattr(huge_pages, "_MODES", modes)
    monkeypatch.setattr(os, "confstr", lambda name: "glibc 2.36")
    return modes


def test_they_are_asked_for_and_all_else_stays() -> None:
    assert with_huge_pages({"PATH": "/bin"}) == {"PATH": "/bin"} | WANTED
    tunables = "glibc.malloc.arena_max=2"
    assert with_huge_pages({"GLIBC_TUNABLES": tunables}) == WANTED | {
        "GLIBC_TUNABLES": f"{tunables}:glibc.malloc.hugetlb=1"
    }


@pytest.mark.parametrize(
    "said", [{"PYTHONMALLOC": "pymalloc"}, {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}, WANTED], ids=str
)
def test_who_says_otherwise_is_obeyed(said: dict[str, str]) -> None:
    assert with_huge_pages(said) == said


@pytest.mark.parametrize("libc", ["glibc 2.34", "musl 1.2.4", "", None])
def test_an_old_or_another_c_library_has_none(monkeypatch: pytest.MonkeyPatch, libc: str | None) -> None:
    monkeypatch.setattr(os, "confstr", lambda name: libc)
    assert with_huge_pages({}) == {}


def test_a_c_library_without_a_name_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def confstr(name: str) -> str:
        raise ValueError("unrecognized configuration name")

    monkeypatch.setattr(os, "confstr", confstr)
    assert with_huge_pages({}) == {}


def test_a_kernel_without_them_has_none(system: Path) -> None:
    system.write_text("always madvise [never]\n")
    assert with_huge_pages({}) == {}
    system.unlink()
    assert with_huge_pages({}) == {}


def test_a_process_begins_anew_once(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[Any] = []
    monkeypatch.setattr(os, "execve", lambda *arguments: begun.append(arguments))
    monkeypatch.setattr(os, "environ", {"PATH": "/bin"})
    monkeypatch.setattr(sys, "orig_argv", ["python3", "-m", "lepton_ai", "serve", "a model"])
    restart_with_huge_pages()
    ((program, arguments, environ),) = begun
    assert program == sys.executable and arguments == [sys.executable, "-m", "lepton_ai", "serve", "a model"]
    monkeypatch.setattr(os, "environ", environ)
    restart_with_huge_pages()
    assert len(begun) == 1
