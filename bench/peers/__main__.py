"""Lepton beside every other engine for CPUs, in one run that can be resumed.

    python -m bench.peers [--short] [--only PATTERN] [--list] [--fresh] [--write-page] [--json FILE]

A case that was measured before is not measured again unless something that it depends on has changed: an engine, a
setting, a model, the machine. The exit status is 1 if a case fails, or misses what must be reached.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table as RichTable

from bench.model_files import CACHE
from bench.peers.cases import Case, all_cases
from bench.peers.cpu_flags import cpu_flags
from bench.peers.host import read_host
from bench.peers.measuring import Bench, Options
from bench.peers.outcomes import Results
from bench.peers.page import write_page
from bench.peers.qualities import Text
from bench.peers.report import print_tables, to_json
from bench.peers.running import Plan, carry_out, make_plans
from bench.peers.store import Store
from bench.worker import ROOT

DEFAULT_TEXT = ROOT.parent / "shared" / "data" / "wiki.test.raw"
PAGE = ROOT / "docs" / "benchmarks.md"
TABLE_WIDTH = 180


def choose_cases(cases: Sequence[Case], arguments: argparse.Namespace) -> tuple[Case, ...]:
    """Those that are asked for and can be measured. Raises SystemExit if there are none."""
    chosen = tuple(
        case
        for case in cases
        if (case.is_short or not arguments.short)
        and (arguments.isa == "native" or case.can_limit_isa)
        and (not arguments.only or any(fnmatchcase(case.name, f"*{pattern}*") for pattern in arguments.only))
    )
    if not chosen:
        sys.exit(f"bench.peers: no case is called so: {' '.join(arguments.only or ())}; see --list")
    return chosen


def read_options(arguments: argparse.Namespace, console: Console) -> Options:
    """How to measure. Says so if there is no text."""
    path: Path | None = arguments.text or (DEFAULT_TEXT if DEFAULT_TEXT.exists() else None)
    if path is None:
        console.print(f"KL is not measured: there is no {DEFAULT_TEXT}; give a text with --text")
    return Options(
        num_threads=arguments.threads,
        num_pairs=arguments.pairs,
        isa=None if arguments.isa == "native" else arguments.isa,
        text=Text(path.read_bytes(), arguments.kl_tokens) if path else None,
    )


def print_plans(plans: Sequence[Plan], console: Console) -> None:
    """The cases with their states."""
    table = RichTable("case", "state", "takes about")
    for plan in plans:
        state = f"measured {plan.known.date}" if plan.known else "to be measured"
        table.add_row(plan.case.name, state, _minutes(plan.estimate_s))
    console.print(table)
    console.print(f"{len(plans)} cases; {_minutes(_remaining(plans))} to measure")


def measure(plans: Sequence[Plan], bench: Bench, store: Store, progress: Progress) -> Results:
    """Carry out, with a bar that says what is left."""
    task = progress.add_task("", total=_remaining(plans) or None, left=_minutes(_remaining(plans)))
    left = list(plans)

    def on_done(plan: Plan) -> None:
        left.remove(plan)
        progress.update(task, advance=plan.remaining_s, left=_minutes(_remaining(left)))

    return carry_out(plans, bench, store, on_done)


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--short", action="store_true", help="llama.cpp on SmolLM2, and encoders: what make bench runs")
    parser.add_argument("--only", nargs="+", metavar="PATTERN", help="cases whose names hold one of these")
    parser.add_argument("--list", action="store_true", help="show the cases, what is known of them, and estimates")
    parser.add_argument("--fresh", action="store_true", help="measure anew what was measured before")
    parser.add_argument("--write-page", action="store_true", help="write tables and pictures into docs/benchmarks.md")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to this file")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--isa", choices=("native", "avx2"), default="native", help="the level of both engines")
    parser.add_argument("--text", type=Path, help="text for KL (default: ../shared/data/wiki.test.raw if there)")
    parser.add_argument("--kl-tokens", type=int, default=2048, help="tokens of the text that KL is measured on")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and write. Status 1 if a case fails or misses what must be reached."""
    parser = make_parser()
    arguments = parser.parse_args(argv)
    if arguments.write_page and (arguments.only or arguments.short or arguments.isa != "native"):
        parser.error("--write-page: expected all cases, on the best instruction set")
    log, store, host = Console(stderr=True), Store(CACHE / "peers"), read_host()
    cases = choose_cases(all_cases(cpu_flags()), arguments)
    bar = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.fields[left]} left"))
    with (
        Progress(*bar, console=log, disable=arguments.list) as progress,
        Bench(read_options(arguments, log), host, progress.console.print) as bench,
    ):
        plans = make_plans(cases, bench, store, is_fresh=arguments.fresh)
        if arguments.list:
            print_plans(plans, Console())
            return 0
        results = measure(plans, bench, store, progress)
    print_tables(results, Console(width=max(TABLE_WIDTH, log.width)))
    if arguments.json:
        arguments.json.write_text(json.dumps(to_json(results), indent=2) + "\n", encoding="utf-8")
    if arguments.write_page:
        write_page(PAGE, results, host, num_threads=arguments.threads, num_pairs=arguments.pairs)
    return 0 if results.are_good else 1


def _remaining(plans: Sequence[Plan]) -> float:
    return sum(plan.remaining_s for plan in plans)


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


if __name__ == "__main__":
    sys.exit(main())
