"""Processes that print one token, Lepton's and another engine's in turn.

    python -m bench.peers.launches COMMAND ...    runs one and prints what it took, as JSON

Each is launched by such a small process: of a child, the system counts the parent's pages too until it becomes another
program, and those of a benchmark that has measured for a while are many.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict

from bench.model_files import ModelFile
from bench.peers import engines
from bench.peers.cases import Case
from bench.peers.engine import Engine
from bench.peers.first_token import Round, Start, StartFailed, other_start, own_start, run_once
from bench.peers.pairs import PairedRates
from bench.peers.workloads import Launch
from bench.worker import ROOT

LaunchPair = tuple[Round, Round | None]
"""Of Lepton and of the other engine; None where there is only a limit."""


def launch_pairs(case: Case, file: ModelFile, num_threads: int, num_pairs: int) -> list[LaunchPair]:
    """So many, after one that is not counted: it fills caches. Raises StartFailed, and what making a form raises."""
    ours = own_start(case.subject.model, num_threads)
    theirs = None if case.theirs is engines.ONE_SECOND else _start(case.theirs, case.subject.model, file, num_threads)
    pairs = [(launch(ours), launch(theirs) if theirs else None) for _ in range(1 + num_pairs)]
    return pairs[1:]


def as_rates(pairs: Sequence[LaunchPair], wanted: Launch) -> PairedRates:
    """Inverses of seconds or of bytes; where there is only a limit, it is a second."""
    rates = [(_rate(ours, wanted), _rate(theirs, wanted) if theirs else 1.0) for ours, theirs in pairs]
    return PairedRates(tuple(ours for ours, _ in rates), tuple(theirs for _, theirs in rates))


def launch(start: Start) -> Round:
    """Run a process to its end. Raises StartFailed."""
    command = [sys.executable, "-m", "bench.peers.launches", *start.command]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise StartFailed(f"{start.engine}: {done.stderr.strip()}")
    return Round(**json.loads(done.stdout))


def _start(engine: Engine, model: str, file: ModelFile, num_threads: int) -> Start:
    if engine.start_script is None:
        raise StartFailed(f"{engine.name}: there is no script that prints its first token")
    form = engine.form(file.path) if engine.form else file.path
    python = engine.interpreter(engine.settings[0])
    return other_start(engine.name, engine.start_script, python, form, model, num_threads)


def _rate(round_: Round, wanted: Launch) -> float:
    return 1 / (round_.rss_bytes if wanted.is_memory else round_.seconds)


def main(command: Sequence[str]) -> None:
    """Print what ``command`` took."""
    try:
        print(json.dumps(asdict(run_once(Start(command[0], tuple(command))))))
    except StartFailed as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
