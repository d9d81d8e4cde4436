"""Texts as verbs take them: arguments, or a file with a text on each line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from lepton_ai.errors import InvalidRequest

Texts = Annotated[list[str] | None, typer.Argument(metavar="[TEXT]...", help="The texts.", show_default=False)]
Input = Annotated[
    Path | None, typer.Option("--input", help="Read texts from a file in UTF-8, one a line; - reads standard input.")
]
MaxLength = Annotated[
    int | None,
    typer.Option("--max-length", min=1, help="Cut texts to this many tokens. Default: longer ones are refused."),
]


def gather_texts(texts: list[str] | None, path: Path | None) -> list[str]:
    """The texts of a command. Raises InvalidRequest for none, for both sources, and for a file that cannot be read."""
    if texts and path is not None:
        raise InvalidRequest("--input: expected texts as arguments or in a file, got both", param="input")
    gathered = texts or []
    if path is not None:
        gathered = [line for line in _read(path).splitlines() if line.strip()]
    if not gathered:
        raise InvalidRequest("texts: expected at least one, got none", param="texts")
    return gathered


def _read(path: Path) -> str:
    try:
        data = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
        return data.decode("utf-8")
    except OSError as error:
        raise InvalidRequest(f"--input: cannot read {path}: {error.strerror}", param="input") from None
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"--input: expected UTF-8, got another byte at {error.start}", param="input") from None
