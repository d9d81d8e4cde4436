"""Measured figures beside their limits."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Figure:
    """A value that should be at most ``limit``, both in ``unit``."""

    name: str
    value: float
    limit: float
    unit: str

    @property
    def is_within(self) -> bool:
        """Whether the limit holds."""
        return self.value <= self.limit


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """The options that ``report`` obeys."""
    parser.add_argument("--json", type=Path, help="write the figures to this file")


def report(figures: Sequence[Figure], arguments: argparse.Namespace) -> int:
    """Print a table. Returns 1 if a limit does not hold, for the exit status."""
    table = Table("figure", "measured", "limit", "")
    for figure in figures:
        table.add_row(
            figure.name,
            f"{figure.value:.3g} {figure.unit}",
            f"{figure.limit:.3g} {figure.unit}",
            "within" if figure.is_within else "[yellow]exceeded",
        )
    Console().print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(figure) for figure in figures], indent=2) + "\n", encoding="utf-8")
    return 0 if all(figure.is_within for figure in figures) else 1
