"""Where threads must meet: an op that touches bytes which others may still be reading or writing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes ``start ... end - 1`` of the arena."""

    start: int
    end: int

    def overlaps(self, other: Span) -> bool:
        """Whether the two share a byte."""
        return self.start < other.end and other.start < self.end


@dataclass(slots=True)
class Hazards:
    """Reads and writes of the ops since the last barrier."""

    reads: list[Span] = field(default_factory=list)
    writes: list[Span] = field(default_factory=list)

    def step(self, reads: Sequence[Span], writes: Sequence[Span]) -> bool:
        """Account for one op. Returns whether a barrier must come before it."""
        must_meet = _any_overlap(reads, self.writes) or _any_overlap(writes, [*self.writes, *self.reads])
        if must_meet:
            self.meet()
        self.reads.extend(reads)
        self.writes.extend(writes)
        return must_meet

    def meet(self) -> None:
        """A barrier: nothing is under way any more."""
        self.reads.clear()
        self.writes.clear()


def _any_overlap(mine: Sequence[Span], others: Sequence[Span]) -> bool:
    return any(a.overlaps(b) for a in mine for b in others)
