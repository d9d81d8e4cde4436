"""The search, on a machine that is made up."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from lepton_ai.backends.cpu.tuning import TUNABLES, Tuning
from lepton_ai.cli.tune.choice import Timings
from lepton_ai.cli.tune.loads import LOADS
from lepton_ai.cli.tune.search import THREADS, Axis, Setting, axes_of, candidate_threads, search

DEFAULT = Setting(2, Tuning.default("generic"))
ROUNDS = 15
Cost = Callable[[Setting, str], float]


class Machine:
    """Takes as long as ``cost`` says, in rounds of varying speed; notes what was asked."""

    def __init__(self, cost: Cost, *, only_first: int | None = None) -> None:
        self.cost = cost
        self.only_first = only_first
        self.asked: list[tuple[int, tuple[str, ...]]] = []

    def __call__(self, settings: Sequence[Setting], loads: Sequence[str]) -> list[Timings]:
        """Seconds of each; after ``only_first`` calls all settings are alike."""
        is_real = self.only_first is None or len(self.asked) < self.only_first
        self.asked.append((len(settings), tuple(loads)))
        speeds = [1 + 0.5 * (i % 3) for i in range(ROUNDS)]
        return [
            {load: [s * (self.cost(each, load) if is_real else 1.0) for s in speeds] for load in loads}
            for each in settings
        ]


def axes(*names: str) -> list[Axis]:
    """Those of all that are called so."""
    return [axis for axis in axes_of("generic", (1, 2)) if axis.name in names]


def test_the_defaults_stay_where_nothing_is_faster() -> None:
    machine = Machine(lambda setting, load: 1.0)
    found = search(machine, DEFAULT, axes_of("generic", (1, 2)))
    assert (found.winner, found.chosen, found.confirmation) == (DEFAULT, DEFAULT, None)
    assert all(stage.chosen == stage.in_force for stage in found.stages)
    assert [stage.name for stage in found.stages] == [
        THREADS,
        "prefetch_bytes",
        "row_block",
        "first_eighths",
        "rest_chunks",
    ]


def test_one_number_after_the_other() -> None:
    def cost(setting: Setting, load: str) -> float:
        seconds = 1.0 if setting.tuning.prefetch_bytes == 1024 else 1.1
        # Only with that is another block of rows of use.
        return seconds * (0.8 if setting.tuning.row_block == 192 and setting.tuning.prefetch_bytes == 1024 else 1.0)

    machine = Machine(cost)
    found = search(machine, DEFAULT, axes("prefetch_bytes", "row_block"))
    assert (found.chosen.tuning.prefetch_bytes, found.chosen.tuning.row_block) == (1024, 192)
    assert found.chosen.num_threads == 2
    assert found.confirmation is not None and found.confirmation.overall == pytest.approx(0.8 / 1.1)
    assert [stage.in_force for stage in found.stages] == [4096, 120]
    assert machine.asked[-1] == (2, LOADS)
    assert machine.asked[0] == (5, ("decode 1",)) and machine.asked[1][1] == ("prompt 512",)


def test_threads() -> None:
    found = search(Machine(lambda setting, load: setting.num_threads), DEFAULT, axes(THREADS))
    assert found.chosen == Setting(1, DEFAULT.tuning)


def test_what_is_not_confirmed_is_not_chosen() -> None:
    machine = Machine(lambda setting, load: 1.0 / setting.tuning.row_block, only_first=1)
    found = search(machine, DEFAULT, axes("row_block"))
    assert found.winner.tuning.row_block == 256
    assert found.confirmation is not None and not found.confirmation.is_won
    assert found.chosen == DEFAULT


def test_a_winner_that_slows_another_load_is_not_chosen() -> None:
    def cost(setting: Setting, load: str) -> float:
        is_default = setting.tuning.prefetch_bytes == 4096
        return 1.0 if is_default else 0.8 if load == "decode 1" else 1.1

    found = search(Machine(cost), DEFAULT, axes("prefetch_bytes"))
    assert found.stages[0].chosen != 4096
    assert found.chosen == DEFAULT


def test_axes() -> None:
    names = {axis.name for axis in axes_of("generic", (1,))}
    assert names == {"prefetch_bytes", "row_block", "first_eighths", "rest_chunks"}
    for axis in axes_of("generic", (1, 2)):
        assert DEFAULT.value(axis.name) in axis.values
    for tunable in TUNABLES:
        assert all(tunable.minimum <= value <= tunable.maximum for value in tunable.candidates)


@pytest.mark.parametrize(("num_cores", "expected"), [(1, (1,)), (2, (1, 2)), (4, (2, 3, 4)), (16, (8, 12, 15, 16))])
def test_candidate_threads(num_cores: int, expected: tuple[int, ...]) -> None:
    assert candidate_threads(num_cores) == expected
