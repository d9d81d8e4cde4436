"""What the machine is said to have: cores under a quota, caches."""

from pathlib import Path

import pytest

from lepton_ai.backends.cpu.device import cgroup_cores, shared_cache_bytes


@pytest.mark.parametrize(
    ("quota", "cores"), [("200000 100000\n", 2.0), ("50000 100000\n", 0.5), ("max 100000\n", None)]
)
def test_cores_of_a_cgroup(tmp_path: Path, quota: str, cores: float | None) -> None:
    (tmp_path / "cpu.max").write_text(quota)
    assert cgroup_cores(tmp_path / "cpu.max") == cores


def test_no_cgroup_is_no_quota(tmp_path: Path) -> None:
    assert cgroup_cores(tmp_path / "cpu.max") is None


def test_the_largest_cache_counts(tmp_path: Path) -> None:
    for index, size in enumerate(["48K\n", "32K\n", "1024K\n", "32768K\n"]):
        (tmp_path / f"index{index}").mkdir()
        (tmp_path / f"index{index}" / "size").write_text(size)
    assert shared_cache_bytes(tmp_path) == 32 << 20


@pytest.mark.parametrize("size", [None, "", "unknown\n", "-1K\n"])
def test_a_cache_of_unknown_size_is_a_typical_one(tmp_path: Path, size: str | None) -> None:
    (tmp_path / "index0").mkdir()
    if size is not None:
        (tmp_path / "index0" / "size").write_text(size)
    assert shared_cache_bytes(tmp_path) == 16 << 20
