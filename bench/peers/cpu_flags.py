"""What the processor can do, as Linux names it."""

from __future__ import annotations

from pathlib import Path


def cpu_flags(cpuinfo: str | None = None) -> frozenset[str]:
    """Flags of the first processor in the text of /proc/cpuinfo, by default this machine's; none on arm64."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8") if cpuinfo is None else cpuinfo
    lines = (line.partition(":") for line in text.splitlines())
    return next((frozenset(value.split()) for name, _, value in lines if name.strip() == "flags"), frozenset())


def has_vnni(flags: frozenset[str]) -> bool:
    """Whether products of 8-bit integers are summed in 32 bits by one instruction, which does not saturate."""
    return not flags.isdisjoint(("avx512_vnni", "avx_vnni"))
