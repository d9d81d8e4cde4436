"""Aligned columns of plain text: they survive a pipe, a narrow terminal and ``grep``."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rich.cells import cell_len

from lepton_ai.cli.output import print_line, printable

_GAP = "  "


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, right: Collection[str] = ()) -> None:
    """Print ``rows`` under ``headers``; the columns called ``right`` are aligned there."""
    safe = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(headers, *safe, strict=True)]
    for row in (headers, *safe):
        columns = zip(row, widths, headers, strict=True)
        print_line(_GAP.join(_pad(text, width, is_right=name in right) for text, width, name in columns).rstrip())


def print_fields(fields: Sequence[tuple[str, str]]) -> None:
    """Print names and values, one pair a line."""
    width = max(len(name) for name, _ in fields)
    for name, value in fields:
        print_line(f"{name:<{width}}{_GAP}{value}")


def _pad(text: str, width: int, *, is_right: bool) -> str:
    """Counts columns of a terminal: a Chinese character takes two."""
    space = " " * (width - cell_len(text))
    return space + text if is_right else text + space
