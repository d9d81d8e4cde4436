"""``--timing``: where the time of a command goes, from the creation of its process on."""

from __future__ import annotations

import os
import time
from contextlib import AbstractContextManager
from pathlib import Path

from lepton_ai.cli import BEGIN_S
from lepton_ai.cli.output import print_note
from lepton_ai.phases import Phase, PhaseObserver, phase

_OTHER = "other"
_BESIDE = ("tokenizer",)
"""What a second thread does: its time is not added to that of the others."""


class StartTiming:
    """The phases of one command. Make it when the verb is called: what came before are ``interpreter`` and ``imports``.

    Where timing is not wanted it collects nothing, and ``observer`` is None.
    """

    def __init__(self, *, is_wanted: bool) -> None:
        self.is_wanted = is_wanted
        self._phases: list[Phase] = []
        if is_wanted:
            now_s = time.perf_counter()
            created_s = now_s - process_age_s()
            self._phases += [Phase("interpreter", created_s, BEGIN_S), Phase("imports", BEGIN_S, now_s)]

    @property
    def observer(self) -> PhaseObserver | None:
        """Who is to be told of phases."""
        return self._phases.append if self.is_wanted else None

    def phase(self, name: str) -> AbstractContextManager[None]:
        """The ``with`` block is a phase."""
        return phase(name, self.observer)

    def rows(self) -> list[tuple[str, float, float]]:
        """Name, begin and seconds of each phase, in the order of their begins, since the process was created.

        Phases of one name are added. The last two are what is in no phase, and all until the end of the last phase.
        """
        created_s, end_s = self._phases[0].begin_s, max(each.end_s for each in self._phases)
        begins: dict[str, float] = {}
        seconds: dict[str, float] = {}
        for each in sorted(self._phases, key=lambda each: each.begin_s):
            begins.setdefault(each.name, each.begin_s - created_s)
            seconds[each.name] = seconds.get(each.name, 0.0) + each.end_s - each.begin_s
        rows = [(name, begin, seconds[name]) for name, begin in begins.items()]
        total = end_s - created_s
        other = total - sum(spent for name, spent in seconds.items() if name not in _BESIDE)
        return [*rows, (_OTHER, 0.0, other), ("total", 0.0, total)]

    def to_json(self) -> list[dict[str, object]]:
        """``rows`` for ``--json``."""
        return [{"phase": name, "begin_s": begin, "seconds": seconds} for name, begin, seconds in self.rows()]

    def print(self) -> None:
        """``rows`` as a table, for a person."""
        print_note(f"{'phase':<12}  {'begin ms':>8}  {'ms':>7}")
        for name, begin, seconds in self.rows():
            beside = "  beside the others" if name in _BESIDE else ""
            shown = "" if name in (_OTHER, "total") else f"{1e3 * begin:.1f}"
            print_note(f"{name:<12}  {shown:>8}  {1e3 * seconds:>7.1f}{beside}")


def process_age_s(proc: Path = Path("/proc/self")) -> float:
    """Seconds since this process was created, for a process whose main thread has waited for nothing but files.

    The kernel tells the time of creation in ticks of 10 ms, as a rule. What the thread has computed, and waited for a
    core, it tells in nanoseconds: together the age, unless files had to come from a disk. So that is taken, as far as
    the ticks allow.
    """
    now_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    tick_s = 1 / os.sysconf("SC_CLK_TCK")
    fields = (proc / "stat").read_text().rpartition(")")[2].split()
    most_s = now_s - int(fields[19]) * tick_s
    try:
        computed_ns, waited_ns, _ = map(int, (proc / "schedstat").read_text().split())
    except OSError:  # a kernel that keeps no such statistics
        computed_ns = waited_ns = 0
    return min(max((computed_ns + waited_ns) / 1e9, most_s - tick_s), most_s)
