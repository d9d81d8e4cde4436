"""An executable that keeps the time of each step it runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from lepton_ai.backends.base import Float32Array, KVCache, StepHandle, StepInputs
from lepton_ai.backends.cpu.executable import CpuExecutable
from lepton_ai.backends.cpu.work import StepShape


@dataclass(frozen=True, slots=True)
class RecordedStep:
    """One step. ``wall_s`` lasts from the end of the step before it; ``call_s`` is the part in the executable.

    ``op_seconds`` are, for each op, those of waiting for other threads before it and those of working.
    """

    shape: StepShape
    wall_s: float
    call_s: float
    op_seconds: list[tuple[float, float]]


class StepRecorder:
    """Runs ``executable``. What the recorder takes itself is in no figure."""

    def __init__(self, executable: CpuExecutable, clock: Callable[[], float] = time.perf_counter) -> None:
        self._executable = executable
        self._clock = clock
        self._steps: list[RecordedStep] = []
        self._resumed = clock()
        executable.set_timing(enabled=True)

    def begin(self) -> None:
        """Forget the steps so far; the next one starts now."""
        self._steps = []
        self._executable.take_op_seconds()
        self._resumed = self._clock()

    def take(self) -> list[RecordedStep]:
        """The steps since ``begin``."""
        return self._steps

    def run(self, inputs: StepInputs, cache: KVCache) -> StepHandle:
        """Run one step."""
        entered = self._clock()
        handle = self._executable.run(inputs, cache)
        left = self._clock()
        seconds = self._executable.take_op_seconds()
        self._steps.append(RecordedStep(StepShape.of(inputs), left - self._resumed, left - entered, seconds))
        self._resumed = self._clock()
        return handle

    def set_weight(self, name: str, values: Float32Array) -> None:
        """As the executable does."""
        self._executable.set_weight(name, values)
