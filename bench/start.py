"""How long Lepton takes to start: the import, and a whole process to its first token.

python -m bench.start [--model smollm2] [--runs 9]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from bench.figures import Figure, add_output_options, report
from bench.worker import ROOT

MAX_IMPORT_S = 0.2
MAX_PROCESS_S = 0.8

_IMPORT = "import time; begin = time.perf_counter(); import lepton_ai; print(time.perf_counter() - begin)"


def import_seconds() -> float:
    """Seconds of ``import lepton_ai`` in a fresh interpreter."""
    return float(_run([sys.executable, "-c", _IMPORT]))


def process_seconds(model: str) -> float:
    """Seconds from starting ``lepton run`` to its end, one token later."""
    begin = time.perf_counter()
    _run([sys.executable, "-m", "lepton_ai", "run", model, "--prompt", "hi", "--max-tokens", "1"])
    return time.perf_counter() - begin


def median_of(measure: Callable[[], float], *, num_runs: int) -> float:
    """The median of ``num_runs`` after one that is not counted: it fills caches, of files and of packed weights."""
    measure()
    return statistics.median(measure() for _ in range(num_runs))


def _run(command: list[str]) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.start", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--runs", type=int, default=9)
    add_output_options(parser)
    arguments = parser.parse_args()
    figures = [
        Figure("import lepton_ai", median_of(import_seconds, num_runs=arguments.runs), MAX_IMPORT_S, "s"),
        Figure(
            f"lepton run {arguments.model} --prompt hi --max-tokens 1, whole process",
            median_of(lambda: process_seconds(arguments.model), num_runs=arguments.runs),
            MAX_PROCESS_S,
            "s",
        ),
    ]
    return report(figures, arguments)


if __name__ == "__main__":
    sys.exit(main())
