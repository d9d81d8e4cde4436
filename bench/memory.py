"""How much memory Lepton takes: the first run, which packs the weights, and a later one.

    python -m bench.memory [--model smollm2 | --made-gb 1]

``--made-gb`` takes a folder of safetensors of so many gigabytes, made for the measurement. The proportional set size of
a ``lepton run`` process is sampled while it lives, with a fresh home for what it keeps. It counts private pages whole,
those of mapped files included, and pages that processes share by their share.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from bench.figures import Figure, add_output_options, report
from bench.made_folder import LAYER_BYTES, write_folder
from bench.worker import ROOT
from lepton_ai.config import Environment, Policy
from lepton_ai.graph.passes.precision import kv_dtype
from lepton_ai.models.family import as_decoder
from lepton_ai.models.registry import read_model
from lepton_ai.weights.checkpoint import open_checkpoint
from lepton_ai.weights.sources.progress import NoProgress
from lepton_ai.weights.sources.resolve import resolve

MEGABYTE = 1e6
GENERATING_MARGIN_BYTES = 100e6
PACKING_MARGIN_BYTES = 150e6

_SAMPLE_INTERVAL_S = 0.01
_PROMPT = "Write a long story about a lighthouse keeper who finds a message in a bottle."
_MAX_TOKENS = 256
_TOKEN_COUNT = re.compile(r"^(\d+) tokens, time to first token", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Run:
    """A finished ``lepton run``: its greatest proportional set size before and after the first piece of the answer, and
    the tokens of the answer, whose KV it held at the end.
    """

    loading_peak_bytes: int
    generating_peak_bytes: int
    num_tokens: int


def run_model(path: Path, home: Path) -> Run:
    """Generate with a process of its own and watch it."""
    command = [sys.executable, "-m", "lepton_ai", "run", str(path), "--prompt", _PROMPT]
    command += ["--max-tokens", str(_MAX_TOKENS), "--temperature", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "LEPTON_HOME": str(home)}
    peaks = {False: 0, True: 0}
    with tempfile.TemporaryFile() as answer, tempfile.TemporaryFile("w+") as notes:
        process = subprocess.Popen(command, env=environment, stdout=answer, stderr=notes)
        while process.poll() is None:
            is_generating = os.fstat(answer.fileno()).st_size > 0
            peaks[is_generating] = max(peaks[is_generating], proportional_set_bytes(process.pid))
            time.sleep(_SAMPLE_INTERVAL_S)
        notes.seek(0)
        text = notes.read()
    count = _TOKEN_COUNT.search(text)
    if process.returncode or count is None:
        raise RuntimeError(f"{' '.join(command)}: ended with status {process.returncode}: {text}")
    return Run(peaks[False], peaks[True], int(count[1]))


def proportional_set_bytes(pid: int) -> int:
    """Proportional set size of a process; 0 once it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


def kv_bytes_per_token(path: Path) -> int:
    """Bytes of keys and values of one token in all layers under the policy auto."""
    with open_checkpoint(path) as checkpoint:
        specs = as_decoder(read_model(checkpoint)[0]).kv_specs()
    return sum(replace(spec, dtype=kv_dtype(Policy.AUTO)).bytes_per_token for spec in specs)


def largest_layer_bytes(path: Path) -> int:
    """Stored bytes of the largest layer, or of the embeddings or the head if one of those is larger."""
    sizes: dict[str, int] = {}
    with open_checkpoint(path) as checkpoint:
        _, store = read_model(checkpoint)
        for name in store.names():
            layer = ".".join(name.split(".")[:2])
            sizes[layer] = sizes.get(layer, 0) + store.get(name).num_bytes
    return max(sizes.values())


def packed_bytes(home: Path) -> int:
    """Bytes of the packed weights that a run has left in its home."""
    return sum(path.stat().st_size for path in (home / "packed").glob("*.pack"))


def measure(path: Path) -> list[Figure]:
    """A first and a second run in one fresh home."""
    with tempfile.TemporaryDirectory(prefix="lepton-memory-") as folder:
        home = Path(folder)
        first = run_model(path, home)
        second = run_model(path, home)
        packed = packed_bytes(home)
    packing_limit = packed + largest_layer_bytes(path) + PACKING_MARGIN_BYTES
    kv = second.num_tokens * kv_bytes_per_token(path)
    generating_limit = packed + kv + GENERATING_MARGIN_BYTES
    return [
        _figure("first run, packing", max(first.loading_peak_bytes, first.generating_peak_bytes), packing_limit),
        _figure("later run, loading", second.loading_peak_bytes, packing_limit),
        _figure("later run, generating", second.generating_peak_bytes, generating_limit),
    ]


def _figure(name: str, num_bytes: float, limit_bytes: float) -> Figure:
    return Figure(f"{name}: peak", num_bytes / MEGABYTE, limit_bytes / MEGABYTE, "MB")


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description=__doc__.splitlines()[0])
    model = parser.add_mutually_exclusive_group()
    model.add_argument("--model", default="smollm2")
    model.add_argument("--made-gb", type=float, help="a folder of so many gigabytes, made for the measurement")
    add_output_options(parser)
    arguments = parser.parse_args()
    if arguments.made_gb is None:
        return report(measure(resolve(arguments.model, Environment.read(), NoProgress())), arguments)
    with tempfile.TemporaryDirectory(prefix="lepton-made-") as folder:
        num_layers = max(1, round(arguments.made_gb * 1e9 / LAYER_BYTES))
        return report(measure(write_folder(Path(folder), num_layers)), arguments)


if __name__ == "__main__":
    sys.exit(main())
