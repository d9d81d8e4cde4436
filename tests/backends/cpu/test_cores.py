"""How many cores a process may use, in control groups of both versions."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from lepton_ai.backends.cpu import cores
from lepton_ai.backends.cpu.cores import cgroup_cores, usable_cores


def _cores(folder: Path, of_process: str | None, quotas: Mapping[str, str]) -> float | None:
    """Those of a process whose /proc/self/cgroup says so; a quota is ``QUOTA PERIOD`` of a group, by its path."""
    for group, text in quotas.items():
        path = folder / "cgroup" / group
        path.mkdir(parents=True, exist_ok=True)
        if group.split("/")[0].startswith("cpu"):  # a controller of version 1
            quota, period = text.split()
            (path / "cpu.cfs_quota_us").write_text(f"{quota}\n")
            (path / "cpu.cfs_period_us").write_text(f"{period}\n")
        else:
            (path / "cpu.max").write_text(f"{text}\n")
    if of_process is not None:
        (folder / "self").write_text(of_process)
    return cgroup_cores(folder / "cgroup", folder / "self")


@pytest.mark.parametrize(
    ("of_process", "quotas", "expected"),
    [
        # Version 2, seen from inside a container: its own group is the root.
        ("0::/\n", {".": "200000 100000"}, 2.0),
        ("0::/\n", {".": "50000 100000"}, 0.5),
        ("0::/\n", {".": "max 100000"}, None),
        # A service of systemd: the root has no such file.
        ("0::/system.slice/lepton.service\n", {"system.slice/lepton.service": "150000 100000"}, 1.5),
        # The least of a group and those around it.
        ("0::/a/b\n", {"a": "100000 100000", "a/b": "300000 100000"}, 1.0),
        ("0::/a/b\n", {"a": "max 100000", "a/b": "300000 100000"}, 3.0),
        # Another group's quota is nobody's business.
        ("0::/a\n", {"b": "100000 100000"}, None),
        # A path of the host, of which the container shows nothing.
        ("0::/docker/0123\n", {".": "250000 100000"}, 2.5),
        # Version 1, with controllers of one name and of two, in a container and out of it.
        ("3:cpu:/\n0::/\n", {"cpu": "150000 100000"}, 1.5),
        ("3:cpu:/\n0::/\n", {"cpu": "-1 100000"}, None),
        ("4:cpu,cpuacct:/docker/0123\n", {"cpu,cpuacct": "100000 50000"}, 2.0),
        ("4:cpu,cpuacct:/a\n", {"cpu/a": "100000 50000"}, 2.0),
        ("4:cpuset:/a\n3:cpu:/b\n", {"cpu/a": "100000 100000", "cpu/b": "200000 100000"}, 2.0),
        # Nothing that can be read.
        (None, {".": "200000 100000"}, 2.0),
        ("", {}, None),
        ("0::/\n", {".": "100000 0"}, None),
        ("0::/../..\n", {".": "nonsense"}, None),
    ],
)
def test_cores_of_a_quota(
    tmp_path: Path, of_process: str | None, quotas: Mapping[str, str], expected: float | None
) -> None:
    assert _cores(tmp_path, of_process, quotas) == expected


@pytest.mark.parametrize(
    ("allowed", "quota", "expected"), [(8, None, 8), (8, 2.0, 2), (8, 1.4, 1), (8, 1.5, 2), (4, 0.2, 1), (2, 16.0, 2)]
)
def test_affinity_and_quota(monkeypatch: pytest.MonkeyPatch, allowed: int, quota: float | None, expected: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(allowed)))
    monkeypatch.setattr(cores, "cgroup_cores", lambda: quota)
    assert usable_cores() == expected
