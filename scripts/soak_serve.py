"""A server under mixed load and in hard times, for minutes: `make soak`.

    .venv/bin/python -m scripts.soak_serve [--requests 2000] [--only overload] [--json [FILE]]

`lepton serve` runs as it does elsewhere, with so little memory that it pre-empts. Clients send requests of all shapes:
a tenth leave at random moments, a twentieth are to be refused. Looked at: each request has exactly one end, and that
which is expected; answers have the bits of a quiet run; nothing is left over, no cache, no sockets, no memory. Then,
each on a server of its own: SIGTERM, a dead engine, a dead server, clients that do not read, more than may wait.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from scripts.soak.load import Report
from scripts.soak.mixed import mixed
from scripts.soak.requests import Writer
from scripts.soak.scenarios import ended_by_signal, engine_killed, overloaded, server_killed
from scripts.soak.setup import Setup
from scripts.soak.slow_readers import slow_readers

PARTS: Mapping[str, Callable[[Setup], Awaitable[Report]]] = MappingProxyType(
    {
        "mixed": mixed,
        "sigterm": ended_by_signal,
        "engine-killed": engine_killed,
        "server-killed": server_killed,
        "slow-readers": slow_readers,
        "overload": overloaded,
    }
)
_MOST_SHOWN = 12
"""Of breaches of one part: the first say what is wrong, the others how often."""


async def run(options: argparse.Namespace, progress: Progress) -> list[Report]:
    """The parts that are wanted, one after another, by the same requests whichever these are."""
    reports = []
    for name in options.only or PARTS:
        setup = Setup(
            model=options.model,
            encoder=options.encoder,
            kv_mib=options.kv_mib,
            num_requests=options.requests,
            num_alone=max(1, options.requests // 10),
            num_after=max(1, min(100, options.requests // 4)),
            num_clients=options.clients,
            seed=options.seed,
            writer=Writer(options.model, options.encoder, options.seed),
            progress=progress,
        )
        progress.console.print(f"[dim]{name}")
        reports.append(await PARTS[name](setup))
    return reports


def figures_of(reports: list[Report]) -> dict[str, object]:
    """For other programs."""
    parts = {report.name: {"counts": report.counts, "breaches": report.breaches} for report in reports}
    return {"passed": not any(report.breaches for report in reports), "parts": parts}


def show(reports: list[Report], console: Console) -> None:
    """Counts as a table, then what should not be."""
    table = Table("part", "what", "count", box=None, pad_edge=False)
    for report in reports:
        for place, (name, count) in enumerate(report.counts.items()):
            table.add_row("" if place else report.name, name, str(count))
        table.add_row("", "breaches", str(len(report.breaches)), style="red" if report.breaches else "green")
        table.add_section()
    console.print(table)
    for report in reports:
        for breach in report.breaches[:_MOST_SHOWN]:
            console.print(f"{report.name}: {breach}", style="red", markup=False, highlight=False, soft_wrap=True)
        if (more := len(report.breaches) - _MOST_SHOWN) > 0:
            console.print(f"{report.name}: and {more} more", style="red")


def main() -> int:
    """Returns the exit status: 1 if anything was not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--encoder", default="minilm", help="on a server of its own")
    parser.add_argument("--requests", type=int, default=2000, help="of the mixed load; a tenth is compared alone")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--kv-mib", type=int, default=24, help="memory of the cache, in MiB")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", choices=list(PARTS), help="a part; may be repeated")
    parser.add_argument("--json", nargs="?", const="-", metavar="FILE", help="write figures, without FILE to stdout")
    options = parser.parse_args()
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    console = Console(stderr=True)
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as progress:
        reports = asyncio.run(run(options, progress))
    figures = json.dumps(figures_of(reports), indent=1) + "\n"
    if options.json == "-":
        sys.stdout.write(figures)
    else:
        show(reports, Console())
        if options.json:
            with open(options.json, "w", encoding="utf-8") as file:
                file.write(figures)
    return 1 if any(report.breaches for report in reports) else 0


if __name__ == "__main__":
    sys.exit(main())
