"""Options of ``lepton serve`` about load and time, as types. Their defaults are those of what they set."""

from __future__ import annotations

from typing import Annotated

import typer

MaxWaiting = Annotated[
    int, typer.Option("--max-waiting", min=0, help="Texts that may wait beside those that run, before 429 is answered.")
]
MaxWork = Annotated[
    int | None,
    typer.Option(
        "--max-work", min=1, help="Tokens of work that may be under way when a request is to wait. Default: any number."
    ),
]
RequestTimeout = Annotated[
    float, typer.Option("--request-timeout", min=0.001, help="Most seconds that a request may take.")
]
WriteTimeout = Annotated[
    float, typer.Option("--write-timeout", min=0.001, help="Seconds that a client may leave an answer unread.")
]
DrainTimeout = Annotated[
    float, typer.Option("--drain-timeout", min=0, help="Seconds for requests to be finished after SIGTERM or Ctrl-C.")
]
DrainDelay = Annotated[
    float, typer.Option("--drain-delay", min=0, help="Least seconds to go on answering 503 after SIGTERM or Ctrl-C.")
]
EngineTimeout = Annotated[
    float, typer.Option("--engine-timeout", min=0.001, help="Seconds after which a silent engine is replaced.")
]
