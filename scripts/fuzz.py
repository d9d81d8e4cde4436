"""Throw mutated files at a reader: each must be read, or refused with a LeptonError, within time and memory.

    python scripts/fuzz.py gguf --inputs 100000 --seed 0

The reader runs in processes of its own whose address space is limited, so that a crash, a hang or too much memory is
seen from outside. Prints the counts; exits with 1 on the first violation, and says how to repeat it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from ctypes import Array, c_uint64
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MEMORY_LIMIT_BYTES = 24 << 20
INPUTS_PER_PROCESS = 5_000
"""The ``tokenizers`` library keeps about a kilobyte of every tokenizer that has encoded a text."""

FORMATS = ("gguf", "safetensors", "tokenizer", "gguf-tokenizer")

Worker = Callable[[int, int, int, "Array[c_uint64]"], None]


def main() -> int:
    """Parse the arguments, run, report. Returns the exit status."""
    parser = argparse.ArgumentParser(description="Throw mutated files at a reader.")
    parser.add_argument("format", choices=FORMATS, help="the reader")
    parser.add_argument("--inputs", type=int, default=100_000, help="how many files to try")
    parser.add_argument("--seed", type=int, default=0, help="another seed is another series of files")
    parser.add_argument("--first", type=int, default=0, help="index of the first file in the series")
    arguments = parser.parse_args()
    return fuzz(
        partial(work, arguments.format),
        arguments.format,
        seed=arguments.seed,
        first=arguments.first,
        count=arguments.inputs,
    )


def fuzz(worker: Worker, name: str, *, seed: int, first: int, count: int) -> int:
    """Run ``worker`` in processes of its own, one after the other, and report. Returns the exit status."""
    started = time.monotonic()
    context = multiprocessing.get_context("spawn")
    counts: Array[c_uint64] = context.RawArray(c_uint64, [first, 0, 0])
    exit_code: int | None = 0
    for start in range(first, first + count, INPUTS_PER_PROCESS):
        size = min(INPUTS_PER_PROCESS, first + count - start)
        process = context.Process(target=worker, args=(seed, start, size, counts))
        process.start()
        process.join()
        if (exit_code := process.exitcode) != 0:
            break
    index, num_refused, num_read = counts
    elapsed_s = time.monotonic() - started
    print(f"{num_read + num_refused} inputs: {num_read} read, {num_refused} refused, {elapsed_s:.1f} s")
    if exit_code == 0 and num_read + num_refused == count:
        return 0
    print(f"input {index} of seed {seed}: {describe(exit_code)}", file=sys.stderr)
    print(f"repeat with: scripts/fuzz.py {name} --seed {seed} --first {index} --inputs 1", file=sys.stderr)
    return 1


def work(name: str, seed: int, first: int, count: int, counts: Array[c_uint64]) -> None:
    """Read the files. ``counts``: the index under way, the files refused and those read."""
    sys.path.insert(0, str(ROOT))
    from tests.weights import fuzzing

    def on_input(index: int, is_good: bool | None) -> None:
        if is_good is None:
            counts[0] = index
        else:
            counts[1 + is_good] += 1

    target = fuzzing.make_target(name)
    limit_memory(MEMORY_LIMIT_BYTES)
    with tempfile.TemporaryDirectory(prefix="lepton-fuzz-") as folder:
        try:
            fuzzing.run(target, Path(folder), seed=seed, first=first, count=count, on_input=on_input)
        except Exception:
            traceback.print_exc()
            sys.exit(1)


def limit_memory(num_bytes: int) -> None:
    """Let this process grow by ``num_bytes`` from here on; a larger allocation is a MemoryError."""
    num_pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = num_pages * os.sysconf("SC_PAGE_SIZE") + num_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def describe(exit_code: int | None) -> str:
    """What ended the worker."""
    if exit_code is None or exit_code >= 0:
        return "an exception that is not a LeptonError (above)"
    name = signal.Signals(-exit_code).name
    return "took too long" if name == "SIGPROF" else f"ended the process by {name}"


if __name__ == "__main__":
    sys.exit(main())
