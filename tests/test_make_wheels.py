"""The wheel's promises: how old a Linux may be, and how large it may get."""

from __future__ import annotations

from pathlib import Path

import pytest
from scripts import make_wheels


@pytest.mark.parametrize(
    ("name", "glibc"),
    [
        ("lepton_ai-0.1.0-cp311-cp311-manylinux_2_34_x86_64.whl", (2, 34)),
        ("lepton_ai-0.1.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", (2, 17)),
        ("lepton_ai-0.1.0-cp311-cp311-linux_x86_64.whl", None),
        ("lepton_ai-0.1.0-cp311-cp311-musllinux_1_2_x86_64.whl", None),
    ],
)
def test_the_tag_says_how_old_the_c_library_may_be(name: str, glibc: tuple[int, int] | None) -> None:
    assert make_wheels.oldest_glibc(name) == glibc


@pytest.mark.parametrize("tag", ["linux_x86_64", "manylinux_2_36_x86_64"])
def test_a_wheel_for_too_few_machines_is_refused(tmp_path: Path, tag: str) -> None:
    wheel = tmp_path / f"lepton_ai-0.1.0-cp311-cp311-{tag}.whl"
    wheel.touch()
    with pytest.raises(SystemExit, match=r"expected a tag of glibc 2\.34 or older"):
        make_wheels.check(wheel)


def test_a_wheel_that_grew_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / "lepton_ai-0.1.0-cp311-cp311-manylinux_2_34_x86_64.whl"
    with wheel.open("wb") as file:
        file.truncate(make_wheels.MAX_WHEEL_BYTES + 1)
    with pytest.raises(SystemExit, match="expected at most 8388608 bytes"):
        make_wheels.check(wheel)
