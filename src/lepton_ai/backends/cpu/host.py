"""What the operating system says of the processor: its name, its caches."""

from __future__ import annotations

import platform
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lepton_ai.backends.cpu.cores import usable_cores

_CPUINFO = Path("/proc/cpuinfo")
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


@dataclass(frozen=True, slots=True)
class Host:
    """What tells hosts apart whose best tuning may differ. ``num_cores`` are those that the process may use."""

    processor: str
    architecture: str
    num_cores: int
    caches: str


def read_host(cpuinfo: Path = _CPUINFO, caches: Path = _CACHES) -> Host:
    """This host."""
    return Host(processor_name(cpuinfo), platform.machine(), usable_cores(), " ".join(_cache_sizes(caches)))


def processor_name(cpuinfo: Path = _CPUINFO) -> str:
    """The model's name, or what Arm's cpuinfo has in its place. The first core's lines are read, and no more."""
    known: dict[str, str] = {}
    try:
        with cpuinfo.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                name, _, value = line.partition(":")
                if not value:
                    break
                known[name.strip()] = value.strip()
    except OSError:
        return "unknown"
    part = " ".join(known[name] for name in ("CPU implementer", "CPU part") if name in known)
    return known.get("model name") or part or "unknown"


def _cache_sizes(caches: Path) -> list[str]:
    """Of the first core's caches, as the kernel writes them: ``32768K``."""
    sizes = []
    for path in sorted(caches.glob("index*/size")):
        with suppress(OSError):
            sizes.append(path.read_text(errors="replace").strip())
    return sizes
