"""The search: one number after the other, its values side by side, and at the end the winner against the defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from lepton_ai.backends.cpu.tuning import TUNABLES, Tuning
from lepton_ai.cli.tune.choice import Comparison, Timings, best, compare
from lepton_ai.cli.tune.loads import DECODE_MANY, DECODE_ONE, LOADS, PROMPT

THREADS = "num_threads"

_LOADS_OF: Mapping[str, tuple[str, ...]] = {
    THREADS: LOADS,
    "prefetch_bytes": (DECODE_ONE,),
    "row_block": (PROMPT,),
    "min_tile_rows": (DECODE_MANY, PROMPT),
    "first_eighths": (DECODE_ONE, DECODE_MANY),
    "rest_chunks": (DECODE_ONE, DECODE_MANY),
}


@dataclass(frozen=True, slots=True)
class Setting:
    """All that is tuned: threads, and the numbers of the kernels."""

    num_threads: int
    tuning: Tuning

    def value(self, name: str) -> int:
        """One of them by its name."""
        value: int = self.num_threads if name == THREADS else getattr(self.tuning, name)
        return value

    def with_value(self, name: str, value: int) -> Setting:
        """The same but for one."""
        if name == THREADS:
            return replace(self, num_threads=value)
        return replace(self, tuning=replace(self.tuning, **{name: value}))


@dataclass(frozen=True, slots=True)
class Axis:
    """A number that has more than one value worth a trial, and the loads that it changes."""

    name: str
    values: tuple[int, ...]
    loads: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Trial:
    """A value against the one in force."""

    value: int
    comparison: Comparison


@dataclass(frozen=True, slots=True)
class Stage:
    """What was found of one number. ``seconds`` by load are of ``in_force``; ``chosen`` is the value after it."""

    name: str
    in_force: int
    chosen: int
    seconds: Mapping[str, float]
    trials: tuple[Trial, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """What to use. ``confirmation`` compares ``winner`` with the defaults; None if the defaults won every stage."""

    winner: Setting
    stages: tuple[Stage, ...]
    confirmation: Comparison | None
    chosen: Setting


class Measure(Protocol):
    """Times settings side by side, each with each load in every round, and sees to it that bits are the same."""

    def __call__(self, settings: Sequence[Setting], loads: Sequence[str]) -> Sequence[Timings]:
        """Seconds of each."""
        ...


def axes_of(isa: str, thread_counts: Sequence[int]) -> tuple[Axis, ...]:
    """What there is to try on an instruction set."""
    default = Tuning.default(isa)
    axes = [Axis(THREADS, tuple(thread_counts), _LOADS_OF[THREADS])]
    for tunable in TUNABLES:
        if tunable.applies_to(isa):
            values = tuple(sorted({*tunable.candidates, getattr(default, tunable.name)}))
            axes.append(Axis(tunable.name, values, _LOADS_OF[tunable.name]))
    return tuple(axis for axis in axes if len(axis.values) > 1)


def candidate_threads(num_cores: int) -> tuple[int, ...]:
    """Numbers of threads worth a trial: all cores, all but one, three quarters, half of them."""
    return tuple(sorted({num_cores, max(1, num_cores - 1), max(1, num_cores * 3 // 4), max(1, num_cores // 2)}))


def search(measure: Measure, default: Setting, axes: Sequence[Axis]) -> Found:
    """Change one number after the other to what wins clearly. The result must win clearly over the defaults, too."""
    setting, stages = default, []
    for axis in axes:
        stage = _stage(measure, setting, axis)
        setting = setting.with_value(axis.name, stage.chosen)
        stages.append(stage)
    if setting == default:
        return Found(default, tuple(stages), None, default)
    in_force, winner = measure([default, setting], LOADS)
    confirmation = compare(winner, in_force)
    return Found(setting, tuple(stages), confirmation, setting if confirmation.is_won else default)


def _stage(measure: Measure, setting: Setting, axis: Axis) -> Stage:
    in_force = setting.value(axis.name)
    others = [value for value in axis.values if value != in_force]
    base, *timings = measure([setting, *(setting.with_value(axis.name, value) for value in others)], axis.loads)
    comparisons = [compare(each, base) for each in timings]
    won = best(comparisons)
    return Stage(
        name=axis.name,
        in_force=in_force,
        chosen=in_force if won is None else others[won],
        seconds={load: ratio.seconds for load, ratio in compare(base, base).loads.items()},
        trials=tuple(Trial(value, comparison) for value, comparison in zip(others, comparisons, strict=True)),
    )
