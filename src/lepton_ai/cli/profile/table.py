"""A profile as a table."""

from __future__ import annotations

from lepton_ai.cli.output import print_line
from lepton_ai.cli.profile.run import ModelProfile
from lepton_ai.cli.profile.summary import OpLine, StepProfile
from lepton_ai.cli.table import print_table

_LEFT = ("op", "name", "by")
_RIGHT = ("times", "MB", "MMAC", "ms", "waiting", "%", "GB/s", "GMAC/s", "limit ms", "% of limit", "above ms")
_HEADERS = ("op", "name", "times", "MB", "MMAC", "ms", "waiting", "%", "GB/s", "GMAC/s", "limit ms", "by", *_RIGHT[-2:])


def print_profile(profile: ModelProfile) -> None:
    """A table for each kind of step, and the rates that limits come from."""
    for step in profile.steps:
        _print_step(step)
        print_line()
    bandwidth = profile.limits.bandwidth
    print_line(
        f"limits: {bandwidth.memory_bytes_per_s / 1e9:.1f} GB/s from memory, "
        f"{bandwidth.cache_bytes_per_s / 1e9:.1f} GB/s from caches; GMAC/s of "
        + ", ".join(
            f"{kind.value} x{num_rows} {rate / 1e9:.1f}" for (kind, num_rows), rate in profile.limits.peaks.items()
        )
    )


def _print_step(profile: StepProfile) -> None:
    """Ops in the order of the program; then what is no op, and the step."""
    step_s = profile.step_s
    rows = [_row(line, step_s) for line in profile.lines]
    rows.append({"name": "into ops and out"} | _time(profile.call_s, step_s))
    rows.append({"name": "Python"} | _time(profile.python_s, step_s))
    total = {"name": "the step", "waiting": _ms(profile.waiting_s)}
    rows.append(total | _time(step_s, step_s) | _beside_limit(step_s, profile.limit_s))
    print_line(profile.title)
    print_table(_HEADERS, [[row.get(header, "") for header in _HEADERS] for row in rows], right=_RIGHT)


def _row(line: OpLine, step_s: float) -> dict[str, str]:
    row = {
        "op": line.op,
        "name": line.name,
        "times": str(line.count),
        "MB": f"{line.num_bytes / 1e6:.2f}",
        "waiting": _ms(line.waiting_s),
        "GB/s": f"{line.num_bytes / line.seconds / 1e9:.1f}",
        "by": line.bound,
    }
    if line.macs:
        row |= {"MMAC": f"{line.macs / 1e6:.1f}", "GMAC/s": f"{line.macs / line.seconds / 1e9:.1f}"}
    return row | _time(line.seconds, step_s) | _beside_limit(line.seconds, line.limit_s)


def _time(seconds: float, step_s: float) -> dict[str, str]:
    return {"ms": _ms(seconds), "%": f"{100 * seconds / step_s:.1f}"}


def _beside_limit(seconds: float, limit_s: float) -> dict[str, str]:
    return {
        "limit ms": _ms(limit_s),
        "% of limit": f"{100 * limit_s / seconds:.1f}",
        "above ms": _ms(seconds - limit_s),
    }


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3f}"
