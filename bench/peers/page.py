"""Writes what was measured into docs/benchmarks.md, between marks, and draws its pictures."""

from __future__ import annotations

import re
from pathlib import Path

from bench.peers.cases import Case, Table
from bench.peers.chart import Bar, draw_ratios
from bench.peers.host import Host
from bench.peers.outcomes import Results
from bench.peers.report import TITLES, markdown_table, versions
from bench.peers.store import Measurement

_BLOCK = re.compile(r"(<!-- measured:begin (\S+) -->\n).*?(<!-- measured:end -->)", re.DOTALL)


def write_page(path: Path, results: Results, host: Host, *, num_threads: int, num_pairs: int) -> None:
    """Fill the blocks of the page, and draw a picture of each table beside it.

    Raises ValueError if the page lacks a block, or has one that nothing is known of.
    """
    texts = {table.value: markdown_table(results, table) for table in Table}
    texts["machine"] = _machine(results, host, num_threads, num_pairs)
    for table in (Table.GENERATION, Table.ENCODERS):
        if bars := [bar for case in results.of(table) if (bar := _bar(results, case))]:
            picture = path.with_name(f"{path.stem}-{table.value}.svg")
            picture.write_text(draw_ratios(TITLES[table], bars), encoding="utf-8")
            texts[table.value] += f"\n![{TITLES[table]}: bars for the ratios of this table]({picture.name})\n"
    path.write_text(fill(path.read_text(encoding="utf-8"), texts), encoding="utf-8")


def fill(page: str, texts: dict[str, str]) -> str:
    """The page with ``texts`` in the blocks of these names. Raises ValueError unless it has just these, each once."""
    names = [match[2] for match in _BLOCK.finditer(page)]
    if sorted(names) != sorted(texts):
        raise ValueError(f"page: expected the blocks {', '.join(sorted(texts))}, got {', '.join(sorted(names))}")
    return _BLOCK.sub(lambda match: f"{match[1]}\n{texts[match[2]].rstrip()}\n\n{match[3]}", page)


def _machine(results: Results, host: Host, num_threads: int, num_pairs: int) -> str:
    dates = {outcome.date for outcome in results.outcomes.values() if isinstance(outcome, Measurement)}
    days = " to ".join(sorted({min(dates), max(dates)})) if dates else "not yet"
    lines = (
        f"{host.processor}, {host.architecture}, {host.num_cores} cores, {host.memory_bytes / 1e9:.0f} GB of memory",
        f"instruction sets that Lepton has kernels for: {', '.join(host.isas)}",
        f"{num_threads} threads each, {num_pairs} interleaved pairs, measured {days}",
        *versions(results),
    )
    return "".join(f"- {line}\n" for line in lines)


def _bar(results: Results, case: Case) -> Bar | None:
    outcome = results.outcome(case)
    if not isinstance(outcome, Measurement):
        return None
    low, high = outcome.rates.interval
    group = case.subject.label if case.table is Table.GENERATION else f"{case.subject.label}, {case.workload.name}"
    label = f"{case.workload.name}, {case.theirs.name}" if case.table is Table.GENERATION else case.theirs.name
    return Bar(
        group=group,
        label=label,
        ratio=outcome.rates.ratio,
        low=low,
        high=high,
        must=case.target.must,
        goal=case.target.goal,
        is_missed=results.verdict(case).must is False,
    )
