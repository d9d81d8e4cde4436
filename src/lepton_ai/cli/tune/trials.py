"""Runs loads on several executables in turn, and takes the time."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np

from lepton_ai.backends.base import Executable, Float32Array, KVCache, StepInputs
from lepton_ai.cli.tune.choice import Timings
from lepton_ai.errors import LeptonError

_TRIAL_S = 0.05
_MAX_STEPS = 16
# Longer than the threads of another device spin before they sleep.
_SETTLE_S = 0.001


@dataclass(frozen=True, slots=True)
class Subject:
    """What is tried: an executable with the cache it reads. ``label`` names it where its bits are wrong."""

    label: str
    executable: Executable
    cache: KVCache

    def logits(self, inputs: StepInputs) -> Float32Array:
        """Those of a step."""
        return self.executable.run(inputs, self.cache).result().tensors["logits"].copy()


Clock = Callable[[], float]


def step_seconds(subject: Subject, inputs: StepInputs, *, num_steps: int, clock: Clock = time.perf_counter) -> float:
    """The fastest of some steps in a row: what others on the machine did to the rest is not of interest."""
    fastest = float("inf")
    for _ in range(num_steps):
        start = clock()
        subject.executable.run(inputs, subject.cache)
        fastest = min(fastest, clock() - start)
    return fastest


def steps_of_trial(seconds: float) -> int:
    """How many steps of so many seconds make a trial."""
    return max(1, min(_MAX_STEPS, ceil(_TRIAL_S / max(seconds, 1e-9))))


def interleave(
    subjects: Sequence[Subject],
    steps: Mapping[str, StepInputs],
    num_rounds: int,
    *,
    steps_of: Mapping[str, int],
    advance: Callable[[str], None],
) -> list[Timings]:
    """Time every subject with every load once a round, so that a slow minute is slow for all. ``advance`` is told of
    each trial. A round begins with another subject than the one before it, and every second one goes backwards.
    """
    found: list[dict[str, list[float]]] = [{load: [] for load in steps} for _ in subjects]
    for number in range(num_rounds):
        order = [(number + offset) % len(subjects) for offset in range(len(subjects))]
        for load, inputs in steps.items():
            for index in reversed(order) if number % 2 else order:
                time.sleep(_SETTLE_S)
                subjects[index].executable.run(_warm_up(steps), subjects[index].cache)
                found[index][load].append(step_seconds(subjects[index], inputs, num_steps=steps_of[load]))
                advance(load)
    return [dict(each) for each in found]


def _warm_up(steps: Mapping[str, StepInputs]) -> StepInputs:
    """The shortest step: it wakes the threads."""
    return min(steps.values(), key=lambda inputs: len(inputs.token_ids))


def check_bits(
    subjects: Collection[Subject], steps: Mapping[str, StepInputs], expected: Mapping[str, Float32Array]
) -> None:
    """Raise LeptonError unless all give the logits that are expected of each load, bit by bit."""
    for subject in subjects:
        for load, inputs in steps.items():
            if not np.array_equal(subject.logits(inputs).view(np.uint32), expected[load].view(np.uint32)):
                raise LeptonError(
                    f"{subject.label} gives other bits than the defaults ({load}); this is a defect of Lepton, and "
                    "nothing was stored"
                )
