"""Lepton beside ONNX Runtime and OpenVINO on a BERT sentence encoder, in one run, in interleaved pairs.

python -m bench.encoders [--cases 1x16 32x128 ragged] [--policy fast] [--pairs 9] [--json FILE] [--markdown FILE]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from bench.embedding_quality import cosines
from bench.encoder_cases import CASES, EncoderCase, parse_case
from bench.encoder_report import EncoderReport, EncoderRow, MeasuredEngine, print_table, to_json, to_markdown
from bench.pairs import PairedRates, measure_pairs
from bench.peers.cpu_flags import cpu_flags
from bench.peers.encoder_files import EncoderFiles, prepare_files
from bench.peers.environments import ensure
from bench.report import TABLE_WIDTH
from bench.sentences import DEFAULT_STSB, sentence_sets
from bench.worker import EncoderWorker, require_idle
from lepton_ai.config import Environment, Policy
from lepton_ai.weights.sources.progress import NoProgress
from lepton_ai.weights.sources.resolve import resolve

COSINE_BATCH = 32
REFERENCE = "ONNX Runtime f32"


@dataclass(frozen=True, slots=True)
class Peer:
    """Another engine: its worker's module, the form of the model that it runs, and further options of the worker."""

    name: str
    module: str
    file: str
    options: tuple[str, ...] = ()


def peers(flags: frozenset[str]) -> tuple[Peer, ...]:
    """Each engine in 8-bit integers and in f32. Where the processor can, OpenVINO runs in bf16 as well, and computes in
    it what is not quantised.
    """
    bf16 = ("--precision", "bf16") if "avx512_bf16" in flags else ()
    onnx, openvino = "bench.peers.onnx_worker", "bench.peers.openvino_worker"
    return (
        Peer("ONNX Runtime int8", onnx, "int8.onnx"),
        Peer("OpenVINO int8", openvino, "int8.xml", bf16),
        Peer(REFERENCE, onnx, "f32.onnx"),
        Peer("OpenVINO f32", openvino, "f32.onnx"),
        *([Peer("OpenVINO bf16", openvino, "f32.onnx", bf16)] if bf16 else ()),
    )


@dataclass(frozen=True, slots=True)
class Options:
    """What to measure, and with what."""

    peers_python: Path
    model: str
    policy: str
    stsb: Path | None
    num_threads: int
    num_pairs: int
    cases: tuple[EncoderCase, ...]


def compare(options: Options, console: Console) -> EncoderReport:
    """Measure every case beside every peer."""
    model = resolve(options.model, Environment.read(), NoProgress())
    files = prepare_files(model, sentence_sets(options.stsb), options.peers_python)
    with ExitStack() as stack:
        ours = stack.enter_context(_lepton_worker(files, options))
        theirs = [stack.enter_context(_peer_worker(peer, files, options)) for peer in peers(cpu_flags())]
        engines = measure_cosines((ours, *theirs), files.measured_ids)
        rows: list[EncoderRow] = []
        for case in options.cases:
            for worker, engine in zip(theirs, engines[1:], strict=True):
                console.print(f"{case.name}, {engine.info.name}: {options.num_pairs} pairs")
                rates = measure_rates(case, files.vocab_size, (ours, worker), options.num_pairs)
                rows.append(EncoderRow(case.name, engine, rates))
        return EncoderReport(engines[0], options.num_pairs, len(files.measured_ids), REFERENCE, tuple(rows))


def measure_cosines(workers: Sequence[EncoderWorker], sentences: list[list[int]]) -> list[MeasuredEngine]:
    """Each engine with the least cosine of its vectors of ``sentences`` and those of the engine named REFERENCE."""
    vectors = {worker.info.name: worker.embed(sentences, batch_size=COSINE_BATCH).rows for worker in workers}
    return [
        MeasuredEngine(worker.info, float(cosines(vectors[worker.info.name], vectors[REFERENCE]).min()))
        for worker in workers
    ]


def measure_rates(
    case: EncoderCase, vocab_size: int, workers: tuple[EncoderWorker, EncoderWorker], num_pairs: int
) -> PairedRates:
    """Sequences a second of ours and of the other, which embed the same texts in turn. Raises like ``require_idle``."""

    def run(worker: EncoderWorker, pair: int) -> float:
        rng = np.random.default_rng([pair + 1, *case.name.encode()])
        return case.run(worker, case.draw_texts(rng, vocab_size))

    ours, theirs = workers
    rates = measure_pairs(lambda pair: run(ours, pair), lambda pair: run(theirs, pair), num_pairs=num_pairs)
    require_idle(workers)
    return rates


def _lepton_worker(files: EncoderFiles, options: Options) -> EncoderWorker:
    command = [sys.executable, "-m", "bench.peers.lepton_encoder_worker", "--policy", options.policy]
    return EncoderWorker([*command, "--model", str(files.model), "--threads", str(options.num_threads)])


def _peer_worker(peer: Peer, files: EncoderFiles, options: Options) -> EncoderWorker:
    command = [str(options.peers_python), "-m", peer.module, "--name", peer.name]
    command += ["--model", str(files.peer_forms / peer.file), "--threads", str(options.num_threads)]
    return EncoderWorker([*command, *peer.options])


def parse_options(argv: Sequence[str] | None, console: Console) -> tuple[Options, argparse.Namespace]:
    """The command line. Makes the peers' environment if none is given, and says if STS-B is not there."""
    parser = argparse.ArgumentParser(prog="python -m bench.encoders", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="minilm", help="a BERT sentence encoder that pools by mean")
    parser.add_argument("--policy", choices=[policy.value for policy in Policy], default=Policy.FAST.value)
    parser.add_argument("--cases", nargs="+", type=parse_case, default=CASES, metavar="TEXTSxTOKENS", help="or ragged")
    parser.add_argument("--peers-python", type=Path, help="an interpreter with ONNX Runtime, OpenVINO and NNCF")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--stsb", type=Path, help="STS-B, for cosines (default: ../shared/data/stsb-dev.tsv if there)")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--markdown", type=Path, help="write the table to this file")
    arguments = parser.parse_args(argv)
    stsb: Path | None = arguments.stsb or (DEFAULT_STSB if DEFAULT_STSB.exists() else None)
    if stsb is None:
        console.print(f"cosines are those of built-in sentences: there is no {DEFAULT_STSB}")
    options = Options(
        peers_python=arguments.peers_python or ensure("encoders"),
        model=arguments.model,
        policy=arguments.policy,
        stsb=stsb,
        num_threads=arguments.threads,
        num_pairs=arguments.pairs,
        cases=tuple(arguments.cases),
    )
    return options, arguments


def main() -> None:
    """Measure and print."""
    log = Console(stderr=True)
    options, arguments = parse_options(None, log)
    report = compare(options, log)
    print_table(report, Console(width=max(TABLE_WIDTH, log.width)))
    if arguments.json:
        arguments.json.write_text(json.dumps(to_json(report), indent=2) + "\n", encoding="utf-8")
    if arguments.markdown:
        arguments.markdown.write_text(to_markdown(report), encoding="utf-8")


if __name__ == "__main__":
    main()
