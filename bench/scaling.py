"""How speed grows with the number of threads: each number in turn, several rounds, medians.

python -m bench.scaling --model MODEL [--threads 1,2,4,8,16] [--rounds 3] [--policy auto] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from lepton_ai.backends.cpu.cores import usable_cores

PREFILL, DECODE, DECODE_16 = "prefill 512", "decode 1", "decode 16"
Rates = Mapping[int, Mapping[str, float]]
"""Tokens a second, by threads and workload."""


def thread_counts(num_cores: int) -> list[int]:
    """1, 2, 4, ... and all cores."""
    counts = [1 << i for i in range(num_cores.bit_length()) if 1 << i < num_cores]
    return [*counts, num_cores]


def measure(model: str, threads: Sequence[int], num_rounds: int, policy: str) -> Rates:
    """Medians of ``num_rounds`` rounds, each of all ``threads``."""
    found: dict[int, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for _ in range(num_rounds):
        for count in threads:
            for concurrency in (1, 16):
                result = _bench(model, count, concurrency, policy)
                rates = found[count]
                rates[DECODE if concurrency == 1 else DECODE_16].append(result["decode_tokens_per_s"])
                if concurrency == 1:
                    rates[PREFILL].append(result["prefill_tokens_per_s"])
    return {count: {name: statistics.median(v) for name, v in rates.items()} for count, rates in found.items()}


def _bench(model: str, threads: int, concurrency: int, policy: str) -> dict[str, float]:
    command = [sys.executable, "-m", "lepton_ai", "bench", model, "--json", "--threads", str(threads)]
    command += ["--concurrency", str(concurrency), "--policy", policy]
    command += ["--prompt-tokens", "512" if concurrency == 1 else "64", "--output-tokens", "64", "--repeat", "1"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, float] = json.loads(done.stdout)
    return result


def table(rates: Rates) -> Table:
    """A line for each number of threads: tokens a second, and times that of the fewest threads."""
    fewest = min(rates)
    made = Table("threads", PREFILL, DECODE, DECODE_16, title="tokens a second (times the first line)")
    for count in sorted(rates):
        cells = [f"{rate:.0f} ({rate / rates[fewest][name]:.1f})" for name, rate in _in_order(rates[count])]
        made.add_row(str(count), *cells)
    return made


def _in_order(rates: Mapping[str, float]) -> list[tuple[str, float]]:
    return [(name, rates[name]) for name in (PREFILL, DECODE, DECODE_16)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(description="Speed by number of threads.")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--threads", help="numbers, separated by commas; default: 1, 2, 4, ... and all cores")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--policy", default="auto")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    threads = [int(n) for n in options.threads.split(",")] if options.threads else thread_counts(usable_cores())
    rates = measure(options.model, threads, options.rounds, options.policy)
    Console().print(table(rates))
    if options.json:
        options.json.write_text(json.dumps(rates, indent=2), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
