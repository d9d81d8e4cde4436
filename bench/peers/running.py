"""Measures what is missing of a list of cases, and keeps it."""

from __future__ import annotations

import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.peers.cases import Case, Table
from bench.peers.measuring import Bench
from bench.peers.outcomes import Failure, Outcome, Results
from bench.peers.store import Measurement, Store

_FIRST_ESTIMATE_S = {Table.GENERATION: 60.0, Table.LIMITS: 40.0, Table.ENCODERS: 25.0, Table.STARTS: 30.0}
"""Of a case that was never measured here, with nine pairs."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A case, what is known of it, and how long it takes to know it otherwise."""

    case: Case
    known: Measurement | None
    estimate_s: float

    @property
    def remaining_s(self) -> float:
        """0 if nothing is to be done."""
        return 0.0 if self.known else self.estimate_s


def make_plans(cases: Sequence[Case], bench: Bench, store: Store, *, is_fresh: bool) -> list[Plan]:
    """What is to be done. ``is_fresh`` forgets what was measured before."""
    return [
        Plan(
            case,
            None if is_fresh else store.find(case.name, bench.facts(case)),
            store.last_elapsed_s(case.name) or _FIRST_ESTIMATE_S[case.table],
        )
        for case in cases
    ]


def carry_out(plans: Sequence[Plan], bench: Bench, store: Store, on_done: Callable[[Plan], None]) -> Results:
    """Measure what is not known, each kept at once. What keeps an engine from running is the outcome of its case."""
    missing = [plan.case for plan in plans if plan.known is None]
    outcomes: dict[str, Outcome] = {}
    for plan in plans:
        outcomes[plan.case.name] = plan.known or _measure(plan.case, missing, bench, store)
        on_done(plan)
    return Results(tuple(plan.case for plan in plans), outcomes)


def _measure(case: Case, missing: Sequence[Case], bench: Bench, store: Store) -> Outcome:
    try:
        measurement = bench.measure(case, among=missing)
    except Exception as error:  # whatever it is, the other cases can be measured, and the table shows it
        traceback.print_exc(file=sys.stderr)
        return Failure(_reason(error))
    store.add(case.name, bench.facts(case), measurement)
    return measurement


def _reason(error: Exception) -> str:
    """A line for a cell of a table."""
    if isinstance(error, subprocess.CalledProcessError):
        command = error.cmd if isinstance(error.cmd, list) else [error.cmd]
        return f"{' '.join(map(str, command[:4]))} ... ended with status {error.returncode}"
    text = " ".join(str(error).split())
    return text or type(error).__name__
