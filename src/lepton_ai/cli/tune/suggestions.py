"""What would be faster and gives other bits: measured and said, never changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from lepton_ai.backends.cpu.device import CpuDevice
from lepton_ai.backends.cpu.executable import CpuExecutable
from lepton_ai.cli.tune.choice import Comparison, LoadRatio, compare
from lepton_ai.cli.tune.loads import LOADS
from lepton_ai.cli.tune.search import Setting
from lepton_ai.cli.tune.session import Session
from lepton_ai.cli.tune.trials import Subject
from lepton_ai.config import Policy
from lepton_ai.engine.decoder import Decoder
from lepton_ai.graph.tensor import DType

_INT8_COST = (
    "the distance from policy exact grew by 0.0005 nats a token where that was measured (SmolLM2, Qwen2.5-Coder 0.5B)"
)
_FAST_COST = (
    "weights of more than 8 bits are narrowed to 8; `lepton eval --policy fast --against exact` measures what of"
)


@dataclass(frozen=True, slots=True)
class Suggestion:
    """An option that whoever starts a model may set. ``cost`` is what is known of its fidelity."""

    option: str
    comparison: Comparison
    cost: str

    @property
    def text(self) -> str:
        """In words."""
        parts = ", ".join(f"{name} {_speed(load)}" for name, load in self.comparison.loads.items())
        return f"{self.option} would change speed: {parts}; and results: {self.cost}"


def _speed(load: LoadRatio) -> str:
    """What is gained or lost."""
    return f"{(1 / load.ratio - 1) * 100:+.0f} %{'' if load.is_won or load.is_lost else ' (not clear)'}"


def alternatives(decoder: Decoder) -> Mapping[str, Decoder]:
    """The model under options that may be faster, by option. It is not compiled yet."""
    found = {}
    if decoder.kv_dtype is not DType.I8:
        found["--kv-dtype int8"] = _with(decoder, decoder.policy, DType.I8)
    if decoder.policy is Policy.AUTO and _has_wide_matrices(decoder):
        found["--policy fast"] = _with(decoder, Policy.FAST, decoder.kv_dtype)
    return found


def measure_suggestions(session: Session, setting: Setting) -> list[Suggestion]:
    """Time the model beside itself under other options, all tuned as ``setting``."""
    options = alternatives(session.decoder)
    if not options:
        return []
    session.progress.describe(f"trying {', '.join(options)}")
    subjects = [session.subject(setting)]
    for option, decoder in options.items():
        device = CpuDevice(num_threads=setting.num_threads, isa=session.isa, tuning=setting.tuning)
        compiled = decoder.compile("logits", decoder.limits)
        assert isinstance(compiled, CpuExecutable), "tuning is of the CPU"
        executable = compiled.on(device)
        subjects.append(Subject(option, executable, session.loads.fill(executable, decoder)))
    base, *timings = session.time(subjects, LOADS)
    costs = {"--kv-dtype int8": _INT8_COST, "--policy fast": _FAST_COST}
    return [
        Suggestion(option, compare(each, base), costs[option]) for option, each in zip(options, timings, strict=True)
    ]


def _with(decoder: Decoder, policy: Policy, dtype: DType) -> Decoder:
    specs = tuple(replace(spec, dtype=dtype) for spec in decoder.kv_specs)
    return replace(decoder, policy=policy, kv_dtype=dtype, kv_specs=specs)


def _has_wide_matrices(decoder: Decoder) -> bool:
    """Whether policy ``fast`` would change anything: weights of more than 8 bits, in matrices."""
    weights = decoder.model.build(head="logits").weights()
    return any(len(w.shape) == 2 and decoder.store.get(w.name).type.bits > 8 for w in weights)
