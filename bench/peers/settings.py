"""Which of an engine's settings is fastest for each workload: each is tried alone, shortly."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bench.peers.engine import Setting
from bench.peers.pairs import SETTLE_S
from bench.peers.workloads import Workload
from bench.worker import Worker

_TRIAL_RUNS = 2


@dataclass(frozen=True, slots=True)
class Trials:
    """The name of the fastest setting, and the rate of each."""

    best: str
    rates: dict[str, float]


def try_settings(
    settings: Sequence[Setting], start: Callable[[Setting], Worker], workloads: Sequence[Workload], vocab_size: int
) -> dict[str, Trials]:
    """Try each on all workloads, by whose names the trials are given, with a worker of its own: one whose threads spin
    would otherwise slow down the others.

    The best of two runs counts, after one of the first workload that does not. Raises what ``start`` raises.
    """
    rates: dict[str, dict[str, float]] = {workload.name: {} for workload in workloads}
    rng = np.random.default_rng(0)
    for setting in settings:
        with start(setting) as worker:
            _run(workloads[0], worker, rng, vocab_size)
            for workload in workloads:
                runs = [_run(workload, worker, rng, vocab_size) for _ in range(_TRIAL_RUNS)]
                rates[workload.name][setting.name] = max(runs)
    return {name: Trials(max(found, key=lambda setting: found[setting]), found) for name, found in rates.items()}


def _run(workload: Workload, worker: Worker, rng: np.random.Generator, vocab_size: int) -> float:
    time.sleep(SETTLE_S)
    return workload.run(worker, workload.draw(rng, vocab_size))
