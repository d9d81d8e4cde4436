"""What became of each case, and whether its target is reached."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bench.peers.cases import LEAST_COSINE, Case, Table
from bench.peers.store import Measurement


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a case could not be measured."""

    reason: str


Outcome = Measurement | Failure | None
"""None is not yet measured."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether what must be reached is, and what is aimed at: None where there is no such ratio, or no measurement."""

    must: bool | None
    goal: bool | None


@dataclass(frozen=True, slots=True)
class Results:
    """All cases that were asked for, in order, and the outcomes by their names."""

    cases: tuple[Case, ...]
    outcomes: Mapping[str, Outcome]

    def outcome(self, case: Case) -> Outcome:
        """What became of it."""
        return self.outcomes.get(case.name)

    def verdict(self, case: Case) -> Verdict:
        """Held against its target."""
        return Verdict(self._reaches(case, case.target.must), self._reaches_goal(case))

    def of(self, table: Table) -> list[Case]:
        """The cases of a table."""
        return [case for case in self.cases if case.table is table]

    @property
    def are_good(self) -> bool:
        """Whether nothing has failed, is missing, or has missed what must be reached."""
        return all(
            isinstance(self.outcome(case), Measurement) and self.verdict(case).must is not False for case in self.cases
        )

    def _reaches_goal(self, case: Case) -> bool | None:
        reached = self._reaches(case, case.target.goal)
        other = next((each for each in self.cases if each.name == case.target.other), None)
        if other is not None and self._reaches(other, other.target.goal):
            return True
        return reached

    def _reaches(self, case: Case, ratio: float | None) -> bool | None:
        outcome = self.outcome(case)
        if ratio is None or not isinstance(outcome, Measurement):
            return None
        cosine = outcome.ours.quality
        if case.table is Table.ENCODERS and (cosine is None or cosine < LEAST_COSINE):
            return False
        return outcome.rates.reaches(ratio)
