"""Lepton beside llama.cpp on the same files, in one run, in interleaved pairs.

python -m bench.side_by_side [--isa avx2] [--pairs 9] [--text FILE] [--json FILE] [--markdown FILE]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from bench.cases import Case, Workload, cases_by_form
from bench.divergence import DivergenceCache, MeasuredOn, measure_divergences
from bench.model_files import CACHE, ModelFile, describe_file, make_q4_0, read_windows
from bench.pairs import PairedRates, measure_pairs
from bench.peers.environments import ensure
from bench.report import TABLE_WIDTH, Report, Row, print_table, to_json, to_markdown
from bench.worker import ROOT, Worker, require_idle
from lepton_ai.config import Environment
from lepton_ai.engine.quality import Divergence
from lepton_ai.weights.sources.progress import NoProgress
from lepton_ai.weights.sources.resolve import resolve

MODEL = "smollm2"
DEFAULT_TEXT = ROOT.parent / "shared" / "data" / "wiki.test.raw"


@dataclass(frozen=True, slots=True)
class Options:
    """What to measure, and with what."""

    peers_python: Path
    lepton_isa: str | None
    num_threads: int
    num_pairs: int
    text: Path | None
    kl_tokens: int


def compare(options: Options, console: Console) -> Report:
    """Measure every case."""
    published = describe_file(resolve(MODEL, Environment.read(), NoProgress()))
    rows: list[Row] = []
    with ExitStack() as stack:
        for form, cases in cases_by_form():
            file = published if form == "Q4_1" else describe_file(make_q4_0(published, options.peers_python))
            stack.close()
            ours = stack.enter_context(lepton_worker(file, options, policy="auto"))
            theirs = stack.enter_context(llama_worker(file, options))
            divergences = _divergences(file, (ours, theirs), options, console)
            for case in cases:
                console.print(f"{case.form}, {case.workload.name}: {options.num_pairs} pairs")
                rates = _measure(case, file, ours, theirs, options.num_pairs)
                rows.append(Row(case, file, rates, *(divergences or (None, None))))
        return Report(ours.info, theirs.info, options.num_pairs, tuple(rows))


def lepton_worker(file: ModelFile, options: Options, *, policy: str) -> Worker:
    """A process that runs Lepton."""
    command = [sys.executable, "-m", "bench.peers.lepton_worker", "--policy", policy]
    environment = {"LEPTON_CPU_ISA": options.lepton_isa} if options.lepton_isa else {}
    return Worker([*command, *_common(file, options)], environment)


def llama_worker(file: ModelFile, options: Options) -> Worker:
    """A process that runs llama.cpp."""
    return Worker([str(options.peers_python), "-m", "bench.peers.llama_worker", *_common(file, options)])


def _common(file: ModelFile, options: Options) -> list[str]:
    return ["--model", str(file.path), "--threads", str(options.num_threads)]


def _measure(case: Case, file: ModelFile, ours: Worker, theirs: Worker, num_pairs: int) -> PairedRates:
    rates = measure_pairs(
        lambda pair: case.workload.run(ours, _prompts(case.workload, file, pair)),
        lambda pair: case.workload.run(theirs, _prompts(case.workload, file, pair)),
        num_pairs=num_pairs,
    )
    require_idle((ours, theirs))
    return rates


def _prompts(workload: Workload, file: ModelFile, pair: int) -> list[list[int]]:
    seed = [pair + 1, *workload.name.encode()]
    return workload.draw_prompts(np.random.default_rng(seed), file.vocab_size)


def _divergences(
    file: ModelFile, workers: tuple[Worker, Worker], options: Options, console: Console
) -> list[Divergence] | None:
    """Of each worker, from what was measured before or by running them beside a third with the policy exact."""
    if options.text is None:
        return None
    text = options.text.read_bytes()
    cache = DivergenceCache(CACHE / "divergence.json")
    with lepton_worker(file, options, policy="exact") as exact:
        source = MeasuredOn(exact.info, file.digest, hashlib.sha256(text).hexdigest(), options.kl_tokens)
        found = [cache.find(worker.info, source) for worker in workers]
        if None in found:
            console.print(f"KL from exact over {options.kl_tokens} tokens")
            windows = read_windows(file.path, text, num_tokens=options.kl_tokens)
            measured = measure_divergences(workers, exact, windows)
            for worker, divergence in zip(workers, measured, strict=True):
                cache.add(worker.info, source, divergence)
            return measured
    return [divergence for divergence in found if divergence is not None]


def parse_options(arguments: argparse.Namespace, console: Console) -> Options:
    """Make the peers' environment if none is given, and say if there is no text."""
    text: Path | None = arguments.text or (DEFAULT_TEXT if DEFAULT_TEXT.exists() else None)
    if text is None:
        console.print(f"KL is not measured: there is no {DEFAULT_TEXT}; give a text with --text")
    return Options(
        peers_python=arguments.peers_python
        or ensure("llama_cpp" if arguments.isa == "native" else f"llama_cpp-{arguments.isa}"),
        lepton_isa=None if arguments.isa == "native" else arguments.isa,
        num_threads=arguments.threads,
        num_pairs=arguments.pairs,
        text=text,
        kl_tokens=arguments.kl_tokens,
    )


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.side_by_side", description=__doc__.splitlines()[0])
    parser.add_argument("--isa", choices=("native", "avx2"), default="native", help="the level of both engines")
    parser.add_argument("--peers-python", type=Path, help="an interpreter with llama-cpp-python, built for --isa")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--text", type=Path, help="text for KL (default: ../shared/data/wiki.test.raw if there)")
    parser.add_argument("--kl-tokens", type=int, default=2048, help="tokens of the text that KL is measured on")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--markdown", type=Path, help="write the table to this file")
    return parser


def main() -> int:
    """Measure and print. Status 1 if a target is missed."""
    arguments = make_parser().parse_args()
    log = Console(stderr=True)
    report = compare(parse_options(arguments, log), log)
    print_table(report, Console(width=max(TABLE_WIDTH, log.width)))
    if arguments.json:
        arguments.json.write_text(json.dumps(to_json(report), indent=2) + "\n", encoding="utf-8")
    if arguments.markdown:
        arguments.markdown.write_text(to_markdown(report), encoding="utf-8")
    return 0 if all(row.is_reached for row in report.rows) else 1


if __name__ == "__main__":
    sys.exit(main())
