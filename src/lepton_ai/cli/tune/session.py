"""One model, loaded once: settings become devices and executables, which share its weights and its cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lepton_ai.backends.base import Float32Array
from lepton_ai.backends.cpu.device import CpuDevice
from lepton_ai.backends.cpu.executable import CpuExecutable
from lepton_ai.backends.cpu.tuning import Tuning
from lepton_ai.cli.measuring import Measuring
from lepton_ai.cli.tune.choice import Timings
from lepton_ai.cli.tune.loads import LOADS, Loads
from lepton_ai.cli.tune.search import THREADS, Axis, Setting
from lepton_ai.cli.tune.trials import Subject, check_bits, interleave, step_seconds, steps_of_trial
from lepton_ai.engine.decoder import Decoder
from lepton_ai.engine.loading import LoadedModel

_CALIBRATION_STEPS = 3


class Session:
    """Measures settings of one model. ``default`` is what holds without a stored tuning."""

    def __init__(self, loaded: LoadedModel, *, num_threads: int, num_rounds: int, seed: int, progress: Measuring):
        decoder = loaded.runtime
        assert isinstance(decoder, Decoder) and isinstance(decoder.executable, CpuExecutable)
        self.decoder = decoder
        self.isa = loaded.device.isa
        self.default = Setting(num_threads, Tuning.default(self.isa))
        self.loads = Loads.make(decoder, seed)
        self.progress = progress
        self.num_rounds = num_rounds
        self._done_s = 0.0
        self._executable = decoder.executable
        self._cache = self.loads.fill(decoder.executable, decoder)
        base = self.subject(self.default)
        self._expected: Mapping[str, Float32Array] = {
            load: base.logits(inputs) for load, inputs in self.loads.steps.items()
        }
        seconds = {
            load: step_seconds(base, inputs, num_steps=_CALIBRATION_STEPS) for load, inputs in self.loads.steps.items()
        }
        self._steps_of = {load: steps_of_trial(each) for load, each in seconds.items()}
        warm_up_s = min(seconds.values())
        self._trial_s = {load: seconds[load] * self._steps_of[load] + warm_up_s for load in LOADS}

    def subject(self, setting: Setting) -> Subject:
        """The model as ``setting`` runs it."""
        device = CpuDevice(num_threads=setting.num_threads, isa=self.isa, tuning=setting.tuning)
        return Subject(str(setting), self._executable.on(device), self._cache)

    def expected_s(self, axes: Sequence[Axis], num_others: int) -> float:
        """How long a search along ``axes`` takes, its confirmation, and the trials of ``num_others`` more programs."""
        all_loads = sum(self._trial_s.values())
        stages = sum(len(axis.values) * sum(self._trial_s[load] for load in axis.loads) for axis in axes)
        return self.num_rounds * (stages + (2 + num_others + (num_others > 0)) * all_loads)

    def measure(self, settings: Sequence[Setting], loads: Sequence[str]) -> list[Timings]:
        """Time settings side by side. Raises LeptonError if one of them gives other bits than the default."""
        self.progress.describe(f"trying {_differences(settings)}")
        subjects = [self.subject(setting) for setting in settings]
        check_bits(subjects, {load: self.loads.steps[load] for load in loads}, self._expected)
        return self.time(subjects, loads)

    def time(self, subjects: Sequence[Subject], loads: Sequence[str]) -> list[Timings]:
        """Time subjects side by side, whatever their bits."""
        return interleave(
            subjects,
            {load: self.loads.steps[load] for load in loads},
            self.num_rounds,
            steps_of=self._steps_of,
            advance=self._advance,
        )

    def _advance(self, load: str) -> None:
        self._done_s += self._trial_s[load]
        self.progress.update(self._done_s)


def _differences(settings: Sequence[Setting]) -> str:
    """Names of what is not the same in all."""
    names = (THREADS, *Tuning.__slots__)
    return ", ".join(name for name in names if len({setting.value(name) for setting in settings}) > 1)
