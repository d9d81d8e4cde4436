"""Trials in turn, and the comparison of bits."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from tests.models.tiny import step

from lepton_ai.backends.base import Executable, Float32Array, KVCache, StepHandle, StepInputs, StepOutputs
from lepton_ai.cli.tune import trials
from lepton_ai.cli.tune.trials import Subject, check_bits, interleave, step_seconds, steps_of_trial
from lepton_ai.errors import LeptonError

STEPS = {"short": step([(0, [1], [0])]), "long": step([(0, [1, 2, 3], [0])])}


@dataclass
class Finished:
    """A step that ran."""

    outputs: StepOutputs

    def result(self) -> StepOutputs:
        return self.outputs


@dataclass
class FakeExecutable:
    """Gives ``logits``, and notes what it is asked in ``log``."""

    name: str
    log: list[tuple[str, int]]
    logits: Float32Array = field(default_factory=lambda: np.zeros((1, 4), np.float32))

    def run(self, inputs: StepInputs, cache: KVCache) -> StepHandle:
        self.log.append((self.name, len(inputs.token_ids)))
        return Finished(StepOutputs({"logits": self.logits}))

    def set_weight(self, name: str, values: Float32Array) -> None:
        raise NotImplementedError


@dataclass
class NoCache:
    """What fake executables do not read."""

    num_bytes: int = 0
    num_blocks: tuple[int, ...] = ()

    def copy_block(self, group: int, source: int, target: int) -> None:
        raise NotImplementedError


def subject(name: str, log: list[tuple[str, int]], logits: Float32Array | None = None) -> Subject:
    """One that is called so."""
    executable: Executable = FakeExecutable(name, log) if logits is None else FakeExecutable(name, log, logits)
    return Subject(name, executable, NoCache())


def test_the_fastest_step_counts() -> None:
    times = iter([0.0, 5.0, 10.0, 12.0, 20.0, 23.0])
    log: list[tuple[str, int]] = []
    assert step_seconds(subject("a", log), STEPS["long"], num_steps=3, clock=lambda: next(times)) == 2.0
    assert log == [("a", 3)] * 3


@pytest.mark.parametrize(("seconds", "expected"), [(1.0, 1), (0.05, 1), (0.02, 3), (0.004, 13), (1e-6, 16), (0.0, 16)])
def test_steps_of_a_trial(seconds: float, expected: int) -> None:
    assert steps_of_trial(seconds) == expected


def test_every_subject_runs_in_every_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "_SETTLE_S", 0.0)
    log: list[tuple[str, int]] = []
    advanced: list[str] = []
    subjects = [subject(name, log) for name in "abc"]
    found = interleave(subjects, STEPS, 4, steps_of={"short": 2, "long": 1}, advance=advanced.append)
    assert [{load: len(seconds) for load, seconds in each.items()} for each in found] == [{"short": 4, "long": 4}] * 3
    assert advanced == ["short"] * 3 + ["long"] * 3 + ["short"] * 3 + ["long"] * 3 + advanced[12:]
    # In turn, from another one each time, every second round backwards; the short step warms up.
    long = [name for name, num_tokens in log if num_tokens == 3]
    assert "".join(long) == "abc" + "acb" + "cab" + "cba"[::1]
    assert log.count(("a", 1)) == 4 * (1 + 2 + 1)


def test_bits() -> None:
    zeros, log = np.zeros((1, 4), np.float32), list[tuple[str, int]]()
    expected = {"short": zeros}
    steps = {"short": STEPS["short"]}
    check_bits([subject("same", log, zeros.copy())], steps, expected)
    for other in (-zeros, zeros + np.float32(1e-45)):
        with pytest.raises(LeptonError, match=r"row_block 64 gives other bits than the defaults \(short\)"):
            check_bits([subject("row_block 64", log, other)], steps, expected)
    same_nan = np.full((1, 4), np.nan, np.float32)
    check_bits([subject("same", log, same_nan.copy())], steps, {"short": same_nan})
