"""How long a process takes from its start to the first token, and how much memory: Lepton beside other engines.

    python -m bench.peers.first_token [--model smollm2] [--start NAME=SCRIPT,PYTHON,FORM ...]

Each engine answers "hi" with one token, in a new process for each round; engines take turns. Lepton does it by its
command, and renders the chat template itself. Others do it by a script in ``first_token_scripts``, which gets the
rendered text, and its ids for those that have no tokenizer. Files are in the page cache, packed weights and what else
an engine keeps are there: one round is not counted.

``--start`` adds an engine that ``starts`` does not know: a script, the interpreter of its environment, and its form of
the model.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from rich.console import Console
from rich.table import Table

from bench.deadline import ANSWER_TIMEOUT_S, Deadline
from bench.figures import Figure, add_output_options, report
from bench.memory import MEGABYTE, proportional_set_bytes
from bench.peers import environments
from bench.worker import ROOT
from lepton_ai.config import Environment
from lepton_ai.engine.prompt_encoder import PromptEncoder
from lepton_ai.text.tokenizer import Tokenizer
from lepton_ai.weights.checkpoint import open_checkpoint
from lepton_ai.weights.sources.progress import NoProgress
from lepton_ai.weights.sources.resolve import resolve

NUM_ROUNDS = 9
MAX_IMPORT_S = 0.2
MUST_S: Mapping[str, float] = {"smollm2": 0.55, "qwen2.5-coder-0.5b": 0.95}
"""Seconds of a whole ``lepton run`` on two cores."""

_PROMPT = "hi"
_SCRIPTS = ROOT / "bench" / "peers" / "first_token_scripts"
_NUM_MEMORY_ROUNDS = 3
_SAMPLE_INTERVAL_S = 0.005
_IMPORT = "import time; begin = time.perf_counter(); import lepton_ai; print(time.perf_counter() - begin)"


class StartFailed(Exception):
    """A process ended with another status than 0, or not in time, or printed nothing; the message has what it said."""


@dataclass(frozen=True, slots=True)
class Start:
    """An engine and the command that prints its first token."""

    engine: str
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """What an engine took. ``seconds`` and those of ``spread``, the fastest and the slowest round, are of the whole
    process, ``first_s`` until it had printed. ``rss_bytes`` and ``pss_bytes`` are peaks: of all resident pages, and of
    these with shared ones by their share, sampled in rounds of their own. ``failure`` says why there is nothing.
    """

    engine: str
    seconds: float = 0.0
    spread: tuple[float, float] = (0.0, 0.0)
    first_s: float = 0.0
    rss_bytes: int = 0
    pss_bytes: int = 0
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class Round:
    """One process."""

    first_s: float
    seconds: float
    rss_bytes: int


def run_once(start: Start, *, timeout_s: float = ANSWER_TIMEOUT_S) -> Round:
    """Run a process to its end, which it must reach within ``timeout_s``. Raises StartFailed."""
    with tempfile.TemporaryFile() as errors:
        begin = time.perf_counter()
        process = _spawn(start, subprocess.PIPE, errors)
        assert process.stdout is not None
        with process.stdout, Deadline(process.pid, timeout_s) as deadline:
            text = process.stdout.read(1)
            first_s = time.perf_counter() - begin
            text += process.stdout.read()
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        said = errors.read().decode(errors="replace").strip()
    if deadline.has_passed:
        raise StartFailed(f"gave no answer within {timeout_s:g} s: {said[-500:]}")
    if process.returncode or not text.strip():
        raise StartFailed(f"status {process.returncode}: {said[-500:]}")
    rss_bytes = usage.ru_maxrss * 1024
    # The system counts a child's pages from before it became another program, when they were its parent's.
    own_bytes = _own_peak_bytes()
    if rss_bytes <= own_bytes:
        raise RuntimeError(f"{start.engine}: its peak is not above that of this process, {own_bytes} bytes")
    return Round(first_s, seconds, rss_bytes)


def _own_peak_bytes() -> int:
    """Of this process since it became this program: what getrusage says has its parent's pages in it."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def sample_memory(start: Start) -> int:
    """The peak of the proportional set size of a process, in bytes."""
    process = _spawn(start, subprocess.DEVNULL, subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        peak = max(peak, proportional_set_bytes(process.pid))
        time.sleep(_SAMPLE_INTERVAL_S)
    return peak


def measure(starts: Sequence[Start], *, num_rounds: int = NUM_ROUNDS) -> list[Row]:
    """A row for each engine, which take turns. Who fails in the round that is not counted has no other."""
    failures: dict[str, str] = {}
    rounds: dict[str, list[Round]] = {start.engine: [] for start in starts}
    for index in range(num_rounds + 1):
        for start in starts:
            if start.engine in failures:
                continue
            try:
                done = run_once(start)
            except (StartFailed, OSError) as error:
                failures[start.engine] = str(error)
                continue
            if index:
                rounds[start.engine].append(done)
    return [
        Row(start.engine, failure=failures[start.engine])
        if start.engine in failures
        else _row(start, rounds[start.engine])
        for start in starts
    ]


def starts(model: str, num_threads: int, python: Path = Path(sys.executable)) -> list[Start]:
    """Lepton, as installed for the interpreter ``python``, and llama.cpp by both of its interfaces."""
    path = resolve(model, Environment.read(), NoProgress())
    own = own_start(model, num_threads, python)
    if path.is_dir():
        return [own]
    llama_python = environments.ensure("llama_cpp")
    names = {"llama.cpp": "llama_cpp_low_level.py", "llama.cpp, Llama": "llama_cpp_high_level.py"}
    return [own, *(other_start(name, script, llama_python, path, model) for name, script in names.items())]


def own_start(model: str, num_threads: int, python: Path = Path(sys.executable)) -> Start:
    """Lepton's command, as installed for the interpreter ``python``."""
    command = (str(python), "-m", "lepton_ai", "run", model, "--prompt", _PROMPT, "--max-tokens", "1")
    return Start("Lepton", (*command, "--threads", str(num_threads)))


def other_start(engine: str, script: str, python: Path, form: Path, model: str, num_threads: int = 2) -> Start:
    """An engine that answers by a script in ``first_token_scripts``; ``form`` is what it reads of ``model``."""
    text, ids = rendered(model)
    numbers = ",".join(map(str, ids))
    return Start(engine, (str(python), str(_SCRIPTS / script), str(form), str(num_threads), text, numbers))


def rendered(model: str) -> tuple[str, list[int]]:
    """The prompt as the model's chat template makes it, and its ids."""
    environment = Environment.read()
    with open_checkpoint(resolve(model, environment, NoProgress()), environment.home) as checkpoint:
        tokenizer = Tokenizer.from_checkpoint(checkpoint, cache_dir=environment.home / "tokenizers")
        ids = PromptEncoder(checkpoint, tokenizer).chat([{"role": "user", "content": _PROMPT}]).ids
    return tokenizer.decode(ids, skip_special_tokens=False), ids


def import_seconds(num_rounds: int = NUM_ROUNDS) -> float:
    """The median of ``import lepton_ai`` in fresh interpreters."""
    command = [sys.executable, "-c", _IMPORT]
    environment = _environment()
    outputs = [subprocess.check_output(command, env=environment, text=True) for _ in range(num_rounds + 1)]
    return statistics.median(map(float, outputs[1:]))


def figures(rows: Sequence[Row], model: str) -> list[Figure]:
    """Lepton's row held against what it must reach: its own limit, and the best of the others."""
    own, others = rows[0], [row for row in rows[1:] if row.failure is None]
    held = [Figure(f"{model}: whole process", own.seconds, MUST_S[model], "s")] if model in MUST_S else []
    if others:
        held += [
            Figure(f"{model}: beside the fastest", own.seconds, min(row.seconds for row in others), "s"),
            _megabytes(f"{model}: peak beside the smallest", own.rss_bytes, min(row.rss_bytes for row in others)),
        ]
    return held


def _megabytes(name: str, num_bytes: int, limit_bytes: int) -> Figure:
    return Figure(name, num_bytes / MEGABYTE, limit_bytes / MEGABYTE, "MB")


def _row(start: Start, rounds: Sequence[Round]) -> Row:
    seconds = [each.seconds for each in rounds]
    return Row(
        start.engine,
        seconds=statistics.median(seconds),
        spread=(min(seconds), max(seconds)),
        first_s=statistics.median(each.first_s for each in rounds),
        rss_bytes=int(statistics.median(each.rss_bytes for each in rounds)),
        pss_bytes=max(sample_memory(start) for _ in range(_NUM_MEMORY_ROUNDS)),
    )


def _spawn(start: Start, stdout: int, stderr: int | IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        start.command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, env=_environment(), cwd=ROOT, bufsize=0
    )


def _environment() -> dict[str, str]:
    """Without paths of this process, which another interpreter would search for each import."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def print_rows(rows: Sequence[Row]) -> None:
    """As a table."""
    table = Table("engine", "s", "from", "to", "first token s", "peak RSS MB", "peak PSS MB")
    for row in rows:
        numbers = (row.seconds, *row.spread, row.first_s)
        sizes = (row.rss_bytes / MEGABYTE, row.pss_bytes / MEGABYTE)
        cells = [f"{each:.3f}" for each in numbers] + [f"{each:.0f}" for each in sizes]
        table.add_row(row.engine, *(cells if row.failure is None else [row.failure]))
    Console().print(table)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers.first_token", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--rounds", type=int, default=NUM_ROUNDS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--python", type=Path, default=Path(sys.executable), help="an interpreter that has Lepton")
    parser.add_argument("--start", action="append", default=[], metavar="NAME=SCRIPT,PYTHON,FORM")
    add_output_options(parser)
    arguments = parser.parse_args()
    wanted = starts(arguments.model, arguments.threads, arguments.python)
    for each in arguments.start:
        name, _, parts = each.partition("=")
        script, python, form = parts.split(",")
        wanted.append(other_start(name, script, Path(python), Path(form), arguments.model, arguments.threads))
    rows = measure(wanted, num_rounds=arguments.rounds)
    print_rows(rows)
    held = [Figure("import lepton_ai", import_seconds(arguments.rounds), MAX_IMPORT_S, "s")]
    return report([*held, *figures(rows, arguments.model)], arguments)


if __name__ == "__main__":
    sys.exit(main())
