"""Where the time of some steps went, in a few numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lepton_ai.engine.trace import StepTrace

PRODUCTS, ATTENTION, OTHER_OPS = "matrix products", "attention", "other ops"
KERNELS = (PRODUCTS, ATTENTION, OTHER_OPS)
PYTHON = ("schedule", "inputs and call", "update", "text")


@dataclass(frozen=True, slots=True)
class TimeSplit:
    """Seconds of a stretch of time: in kernels and in Python, each by part, and between steps."""

    seconds: float
    kernels: Mapping[str, float]
    python: Mapping[str, float]

    @property
    def kernel_share(self) -> float:
        """0 to 1."""
        return self.share(sum(self.kernels.values()))

    @property
    def python_share(self) -> float:
        """0 to 1."""
        return self.share(sum(self.python.values()))

    @property
    def waiting_share(self) -> float:
        """The part of the time in which no step was under way, 0 to 1."""
        return max(0.0, 1.0 - self.kernel_share - self.python_share)

    def share(self, seconds: float) -> float:
        """These seconds as a part of all."""
        return seconds / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class TraceSummary:
    """What some steps did. Tokens are those that went through the model; those found in the cache did not."""

    num_requests: int
    num_steps: int
    prompt_tokens: int
    decode_tokens: int
    num_preemptions: int
    time: TimeSplit

    def to_dict(self) -> dict[str, object]:
        """One object, as ``--json`` prints it."""
        return {
            "num_requests": self.num_requests,
            "num_steps": self.num_steps,
            "prompt_tokens": self.prompt_tokens,
            "decode_tokens": self.decode_tokens,
            "num_preemptions": self.num_preemptions,
            "seconds": self.time.seconds,
            "kernel_share": self.time.kernel_share,
            "python_share": self.time.python_share,
            "waiting_share": self.time.waiting_share,
            "kernel_s": dict(self.time.kernels),
            "python_s": dict(self.time.python),
        }


def summarize(steps: Sequence[StepTrace]) -> TraceSummary:
    """Of steps in their order, at least one."""
    return TraceSummary(
        num_requests=len({request.request_id for step in steps for request in step.requests}),
        num_steps=len(steps),
        prompt_tokens=sum(step.prompt_tokens for step in steps),
        decode_tokens=sum(step.decode_tokens for step in steps),
        num_preemptions=sum(len(step.preempted) for step in steps),
        time=split_time(steps, steps[-1].end_s - origin_s(steps)),
    )


def split_time(steps: Iterable[StepTrace], seconds: float) -> TimeSplit:
    """The time of some steps, within ``seconds``."""
    kernels, python = dict.fromkeys(KERNELS, 0.0), dict.fromkeys(PYTHON, 0.0)
    for step in steps:
        for kind, taken in step.kernel_s.items():
            kernels[_group(kind)] += taken
        for part, taken in zip(PYTHON, (step.schedule_s, step.call_s, step.update_s, step.deliver_s), strict=True):
            python[part] += taken
    return TimeSplit(seconds, kernels, python)


def origin_s(steps: Sequence[StepTrace]) -> float:
    """Where a picture of some steps begins: with the first step, or what arrived before it."""
    return min((arrival.at_s for arrival in steps[0].arrivals), default=steps[0].start_s)


def _group(kind: str) -> str:
    match kind:
        case "linear":
            return PRODUCTS
        case "attend" | "attend_merge":
            return ATTENTION
        case _:
            return OTHER_OPS
