"""What verbs print: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import sys


def print_json(value: object) -> None:
    """One object, on one line, in UTF-8 whatever the locale."""
    sys.stdout.write(json.dumps(value, ensure_ascii=True, allow_nan=False) + "\n")


def print_line(text: str = "") -> None:
    """A line of the result."""
    sys.stdout.write(printable(text) + "\n")


def print_note(text: str) -> None:
    """A line for a person, which a pipe does not get."""
    sys.stderr.write(printable(text) + "\n")


def ask(question: str) -> bool:
    """Whether a person says yes. Standard output stays free for the result, which typer's own prompt does not heed."""
    sys.stderr.write(f"{printable(question)} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def printable(text: str) -> str:
    """The text on one line, safe for a terminal: names from outside may hold escape sequences or lone surrogates."""
    return "".join(c if c.isprintable() else "�" for c in text)


def format_bytes(num_bytes: int) -> str:
    """Decimal units, as download sizes are given: 98 MB, 1.1 GB."""
    if num_bytes < 1_000_000_000:
        return f"{num_bytes / 1e6:.0f} MB"
    return f"{num_bytes / 1e9:.1f} GB"
