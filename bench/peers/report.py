"""The tables: as text, for a terminal and for the page, and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table as RichTable

from bench.peers.cases import Case, Table
from bench.peers.engines import ONE_SECOND
from bench.peers.outcomes import Failure, Results
from bench.peers.pairs import PairedRates
from bench.peers.store import Contender, Measurement
from bench.peers.workloads import PEAK_MEMORY

MISSING = "-"
_LEFT = frozenset(("file", "sha256", "workload", "peer", "what", "beside", "texts x tokens"))


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its head, and its cell of a case that was measured, or what ``always`` says of any case."""

    head: str
    cell: Callable[[Case, Measurement], str] | None = None
    always: Callable[[Case], str] | None = None


COLUMNS: Mapping[Table, tuple[Column, ...]] = {
    Table.GENERATION: (
        Column("file", always=lambda case: case.subject.label),
        Column("sha256", lambda case, measured: measured.digest[:12]),
        Column("body / head bits", lambda case, measured: _bits(measured)),
        Column("workload", always=lambda case: case.workload.name),
        Column("Lepton tok/s", lambda case, measured: _rate(measured.rates.our_median)),
        Column("KL", lambda case, measured: _quality(measured.ours)),
        Column("peer", always=lambda case: _peer(case)),
        Column("setting", lambda case, measured: measured.theirs.setting or MISSING),
        Column("peer tok/s", lambda case, measured: _rate(measured.rates.their_median)),
        Column("KL", lambda case, measured: _quality(measured.theirs)),
        Column("ratio", lambda case, measured: ratio_cell(measured.rates)),
    ),
    Table.LIMITS: (
        Column("file", always=lambda case: case.subject.label),
        Column("workload", always=lambda case: _with_kv(case)),
        Column("Lepton tok/s", lambda case, measured: _rate(measured.rates.our_median)),
        Column("beside", always=lambda case: case.their_workload.name if case.their_workload else "memory"),
        Column("tok/s", lambda case, measured: _rate(measured.rates.their_median)),
        Column("ratio", lambda case, measured: ratio_cell(measured.rates)),
    ),
    Table.ENCODERS: (
        Column("texts x tokens", always=lambda case: case.workload.name),
        Column("Lepton seq/s", lambda case, measured: _rate(measured.rates.our_median)),
        Column("least cosine", lambda case, measured: _quality(measured.ours)),
        Column("peer", always=lambda case: _peer(case)),
        Column("peer seq/s", lambda case, measured: _rate(measured.rates.their_median)),
        Column("least cosine", lambda case, measured: _quality(measured.theirs)),
        Column("ratio", lambda case, measured: ratio_cell(measured.rates)),
    ),
    Table.STARTS: (
        Column("file", always=lambda case: case.subject.label),
        Column("what", always=lambda case: case.workload.name),
        Column("Lepton", lambda case, measured: _launched(case, measured.rates.our_median)),
        Column("peer", always=lambda case: MISSING if case.theirs is ONE_SECOND else _peer(case)),
        Column("peer's", lambda case, measured: _their_launch(case, measured)),
        Column("ratio", lambda case, measured: ratio_cell(measured.rates)),
    ),
}
"""Of each table; the targets come after them."""

TITLES: Mapping[Table, str] = {
    Table.GENERATION: "Models that generate",
    Table.LIMITS: "Lepton beside what memory allows, and long prompts beside short ones",
    Table.ENCODERS: "A sentence encoder",
    Table.STARTS: "A process from its start to its end, one token later",
}


def heads(table: Table) -> list[str]:
    """The first line of a table."""
    return [*(column.head for column in COLUMNS[table]), "must", "goal"]


def cells(results: Results, case: Case) -> list[str]:
    """The line of a case. Where it was not measured, the ratio's place says why."""
    outcome = results.outcome(case)
    columns = COLUMNS[case.table]
    line = [_cell(column, case, outcome if isinstance(outcome, Measurement) else None) for column in columns]
    if not isinstance(outcome, Measurement):
        line[-1] = f"failed: {outcome.reason}" if isinstance(outcome, Failure) else "not measured"
    verdict = results.verdict(case)
    return [
        *line,
        _target(case, case.target.must, is_reached=verdict.must),
        _target(case, case.target.goal, is_reached=verdict.goal),
    ]


def print_tables(results: Results, console: Console) -> None:
    """Those that have cases. What must be reached and is not, and what has failed, stands out."""
    for table in Table:
        cases = results.of(table)
        if not cases:
            continue
        shown = RichTable(title=TITLES[table])
        for head in heads(table):
            shown.add_column(head, justify="left" if head in _LEFT else "right")
        for case in cases:
            shown.add_row(*cells(results, case), style=_style(results, case))
        console.print(shown)


def markdown_table(results: Results, table: Table) -> str:
    """A table for the page."""
    lines = [heads(table), ["---"] * len(heads(table)), *(cells(results, case) for case in results.of(table))]
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in lines)


def versions(results: Results) -> list[str]:
    """Each engine that was measured, with its version and what instructions it uses, where it says so, once."""
    measured = [outcome for outcome in results.outcomes.values() if isinstance(outcome, Measurement)]
    infos = [contender.info for each in measured for contender in (each.ours, each.theirs)]
    return sorted({f"{info.version} ({info.isa})" if info.isa else info.version for info in infos if info.version})


def to_json(results: Results) -> list[dict[str, object]]:
    """All figures of all cases."""
    return [_entry(results, case) for case in results.cases]


def ratio_cell(rates: PairedRates) -> str:
    """The ratio with the interval that holds it."""
    low, high = rates.interval
    return f"{rates.ratio:.2f} ({low:.2f}-{high:.2f})"


def _entry(results: Results, case: Case) -> dict[str, object]:
    outcome, verdict = results.outcome(case), results.verdict(case)
    entry: dict[str, object] = {"case": case.name, "target": asdict(case.target), "is_reached": asdict(verdict)}
    if isinstance(outcome, Failure):
        return {**entry, "failure": outcome.reason}
    if outcome is None:
        return entry
    rates = outcome.rates
    summary = {
        "our_median": rates.our_median,
        "their_median": rates.their_median,
        "ratio": rates.ratio,
        "interval": rates.interval,
        "range": rates.ratio_range,
    }
    return {**entry, "unit": case.workload.unit, **summary, "measurement": asdict(outcome)}


def _cell(column: Column, case: Case, measured: Measurement | None) -> str:
    if column.always is not None:
        return column.always(case)
    return MISSING if measured is None or column.cell is None else column.cell(case, measured)


def _target(case: Case, ratio: float | None, *, is_reached: bool | None) -> str:
    if ratio is None:
        return MISSING
    shown = f"{1 / ratio:g} s" if case.theirs is ONE_SECOND else f"{ratio:.3g}"
    return shown if is_reached is None else f"{shown} {'reached' if is_reached else 'missed'}"


def _style(results: Results, case: Case) -> str | None:
    if not isinstance(results.outcome(case), Measurement):
        return "red"
    return "yellow" if results.verdict(case).must is False else None


def _bits(measured: Measurement) -> str:
    if measured.body_bits is None or measured.head_bits is None:
        return MISSING
    return f"{measured.body_bits:.2f} / {measured.head_bits:.2f}"


def _rate(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _launched(case: Case, rate: float) -> str:
    """What a launch took, from its inverse."""
    return f"{1e-6 / rate:.0f} MB" if case.workload == PEAK_MEMORY else f"{1 / rate:.2f} s"


def _their_launch(case: Case, measured: Measurement) -> str:
    return MISSING if case.theirs is ONE_SECOND else _launched(case, measured.rates.their_median)


def _quality(contender: Contender) -> str:
    return MISSING if contender.quality is None else f"{contender.quality:.4f}"


def _peer(case: Case) -> str:
    return f"{case.theirs.name} ({case.theirs.bits} bits)" if case.theirs.bits else case.theirs.name


def _with_kv(case: Case) -> str:
    return ", ".join([case.workload.name, *case.ours.name.split(", ")[1:]])
