"""What was found, as tables, and as the evidence that is stored beside the winner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from lepton_ai.cli.output import print_line
from lepton_ai.cli.table import print_table
from lepton_ai.cli.tune.choice import Comparison
from lepton_ai.cli.tune.loads import LOADS
from lepton_ai.cli.tune.search import THREADS, Found, Setting, Stage
from lepton_ai.cli.tune.suggestions import Suggestion


def describe_setting(setting: Setting) -> dict[str, object]:
    """Numbers by name."""
    return {THREADS: setting.num_threads, **asdict(setting.tuning)}


def describe_found(found: Found) -> dict[str, object]:
    """Every median and ratio, for JSON."""
    return {
        "chosen": describe_setting(found.chosen),
        "winner": describe_setting(found.winner),
        "confirmation": None if found.confirmation is None else describe_comparison(found.confirmation),
        "stages": [_describe_stage(stage) for stage in found.stages],
    }


def _describe_stage(stage: Stage) -> dict[str, object]:
    trials = [{"value": trial.value, **describe_comparison(trial.comparison)} for trial in stage.trials]
    return {
        "name": stage.name,
        "in_force": stage.in_force,
        "chosen": stage.chosen,
        "median_s": dict(stage.seconds),
        "trials": trials,
    }


def describe_comparison(comparison: Comparison) -> dict[str, object]:
    """Medians and ratios by load."""
    loads = {
        name: {"median_s": load.seconds, "median_ratio": load.ratio, "rounds_won": load.num_won, "lost": load.num_lost}
        for name, load in comparison.loads.items()
    }
    return {"is_won": comparison.is_won, "overall_ratio": comparison.overall, "loads": loads}


def print_found(found: Found, default: Setting) -> None:
    """A line for each value tried; the one that a stage chose is starred."""
    rows = []
    for stage in found.stages:
        rows.append(_row(stage, stage.in_force, {load: f"{s * 1e3:.3f} ms" for load, s in stage.seconds.items()}))
        rows += [_row(stage, trial.value, _ratios(trial.comparison)) for trial in stage.trials]
    print_table(["number", "value", *LOADS], rows, right=["value", *LOADS])
    print_line("* chosen; xR: as fast as that, of the value above; N/M: rounds won and lost")
    print_line()
    changes = changed(found.winner, default)
    if found.confirmation is not None:
        ratios = ", ".join(f"{load} {text}" for load, text in _ratios(found.confirmation).items())
        print_line(f"{', '.join(changes)} against the defaults: {ratios}")
        if not found.confirmation.is_won:
            print_line("That is not clear: the defaults stay.")
    else:
        print_line("Nothing is clearly faster than the defaults.")


def changed(setting: Setting, default: Setting) -> Sequence[str]:
    """What differs, such as ``row_block 192 (default 128)``."""
    numbers, others = describe_setting(setting), describe_setting(default)
    return [f"{name} {value} (default {others[name]})" for name, value in numbers.items() if value != others[name]]


def print_suggestions(suggestions: Sequence[Suggestion]) -> None:
    """In words."""
    for suggestion in suggestions:
        print_line(suggestion.text)


def _row(stage: Stage, value: int, cells: Mapping[str, str]) -> list[str]:
    label = f"{value}{'*' if value == stage.chosen else ' '}"
    name = stage.name if value == stage.in_force else ""
    return [name, label, *(cells.get(load, "") for load in LOADS)]


def _ratios(comparison: Comparison) -> dict[str, str]:
    return {name: f"x{1 / each.ratio:.3f} {each.num_won}/{each.num_lost}" for name, each in comparison.loads.items()}
