"""Which settings llama.cpp is fastest with: each is measured alone, in turn with the others.

python -m bench.peer_settings --peers-python PYTHON --model FILE
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.cases import DECODE, DECODE_16, PREFILL
from bench.model_files import describe_file
from bench.pairs import SETTLE_S
from bench.worker import Worker, idle_share

WORKLOADS = (PREFILL, DECODE, DECODE_16)


@dataclass(frozen=True, slots=True)
class Setting:
    """Options of bench/peers/llama_worker.py, and variables of its OpenMP runtime."""

    options: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What differs from the defaults."""
        return " ".join([*self.options, *(f"{k}={v}" for k, v in self.environment.items())]) or "defaults"


SETTINGS = (
    Setting(),
    Setting(("--no-flash-attention",)),
    Setting(("--unified-kv",)),
    Setting(environment={"OMP_WAIT_POLICY": "passive"}),
    Setting(environment={"OMP_WAIT_POLICY": "active"}),
)


def measure_setting(worker: Worker, vocab_size: int, rng: np.random.Generator) -> list[float]:
    """Tokens a second of each workload."""
    rates = []
    for workload in WORKLOADS:
        time.sleep(SETTLE_S)
        rates.append(workload.run(worker, workload.draw_prompts(rng, vocab_size)))
    return rates


def start_worker(setting: Setting, python: Path, model: Path, threads: int) -> Worker:
    """llama.cpp under a setting."""
    command = [str(python), "-m", "bench.peers.llama_worker", "--model", str(model), "--threads", str(threads)]
    return Worker([*command, *setting.options], setting.environment)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.peer_settings", description=__doc__.splitlines()[0])
    parser.add_argument("--peers-python", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    file = describe_file(arguments.model)
    rng = np.random.default_rng(0)
    table = Table("setting", *(f"{workload.name}, tok/s" for workload in WORKLOADS), "cores while idle")
    rates: dict[str, list[list[float]]] = {setting.name: [] for setting in SETTINGS}
    idle: dict[str, float] = {}
    for _ in range(arguments.rounds):
        for setting in SETTINGS:
            # One process at a time: a setting whose threads spin would otherwise slow down the others.
            with start_worker(setting, arguments.peers_python, arguments.model, arguments.threads) as worker:
                measure_setting(worker, file.vocab_size, rng)
                rates[setting.name].append(measure_setting(worker, file.vocab_size, rng))
                idle[setting.name] = idle_share(worker)
    for name, rounds in rates.items():
        medians = (f"{statistics.median(values):.0f}" for values in zip(*rounds, strict=True))
        table.add_row(name, *medians, f"{idle[name]:.2f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
