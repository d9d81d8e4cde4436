"""How many cores this process may use: its affinity mask, and the CPU quotas of its control groups."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_CGROUPS = Path("/sys/fs/cgroup")
_OF_THIS_PROCESS = Path("/proc/self/cgroup")


def usable_cores() -> int:
    """Cores that this process may run on: its affinity mask, cut to the quota of its control groups."""
    cores = len(os.sched_getaffinity(0))
    quota = cgroup_cores()
    return cores if quota is None else max(1, min(cores, int(quota + 0.5)))


def cgroup_cores(cgroups: Path = _CGROUPS, of_process: Path = _OF_THIS_PROCESS) -> float | None:
    """Cores that the CPU quota amounts to, the least of the process's group and those around it; None without one.

    Control groups of version 2 are read, and the ``cpu`` controller of version 1.
    """
    quotas = (quota for folder in _folders(cgroups, of_process) if (quota := _quota(folder)) is not None)
    return min(quotas, default=None)


def _folders(cgroups: Path, of_process: Path) -> Iterator[Path]:
    """Those of the process's groups that limit cores, and of all around them.

    Where a container shows its own part of the tree alone, the path is not there, and the root is the container.
    """
    try:
        lines = of_process.read_text().splitlines()
    except OSError:
        lines = []
    for line in (*lines, "0::/"):
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        names = controllers.split(",")
        if controllers and "cpu" not in names:
            continue
        for root in {cgroups / controllers, cgroups / "cpu"} if controllers else {cgroups, cgroups / "unified"}:
            path = PurePosixPath(group.lstrip("/"))
            yield from (root / part for part in (path, *path.parents) if ".." not in part.parts)


def _quota(folder: Path) -> float | None:
    try:
        quota, period = (folder / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        except OSError:
            return None
    if not quota.isdecimal() or not period.isdecimal() or int(period) == 0:  # "max", or -1, for none
        return None
    return int(quota) / int(period)
