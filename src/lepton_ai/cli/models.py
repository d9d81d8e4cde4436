"""``lepton list`` and ``lepton rm``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from lepton_ai.cli.options import Json
from lepton_ai.cli.output import ask, format_bytes, print_json, print_line, print_note
from lepton_ai.config import Environment
from lepton_ai.errors import InvalidRequest, ModelNotFound
from lepton_ai.weights.packed import PackedCache
from lepton_ai.weights.sources.library import InstalledModel, Library
from lepton_ai.weights.sources.references import canonical_name
from lepton_ai.weights.sources.registry import KNOWN_MODELS, HubModel, KnownModel, find_model

Names = Annotated[list[str], typer.Argument(metavar="MODEL...", help="Names, as `lepton list` shows them.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    is_installed: bool
    size_bytes: int
    path: Path | None
    licence: str
    description: str

    def to_dict(self) -> dict[str, object]:
        return {
            "name": self.name,
            "is_installed": self.is_installed,
            "size_bytes": self.size_bytes,
            "path": str(self.path) if self.path else None,
            "licence": self.licence,
            "description": self.description,
        }


def list_models(*, json: Json = False) -> None:
    """List the models that are on this machine, and those that `lepton pull` and `lepton run` know by name.

    \b
    Example:
      lepton list --json
    """
    installed = {model.name: model for model in Library(Environment.read().home).installed()}
    known = [_row(model, installed.pop(model.name, None)) for model in KNOWN_MODELS]
    rows = [*known, *(_row(find_model(model.name), model) for model in installed.values())]
    if json:
        print_json({"models": [row.to_dict() for row in rows]})
        return
    name_width = max(len(row.name) for row in rows)
    for row in rows:
        state = "here" if row.is_installed else "-"
        size = format_bytes(row.size_bytes)
        print_line(f"{row.name:<{name_width}}  {size:>7}  {state:<4}  {row.description}".rstrip())


def _row(known: KnownModel | HubModel | None, installed: InstalledModel | None) -> _Row:
    """At least one of the two is there; a model that another version of Lepton pulled is known to that one only."""
    described = known or installed
    assert described is not None
    return _Row(
        name=described.name,
        is_installed=installed is not None,
        size_bytes=(installed or described).size_bytes,
        path=installed.path if installed else None,
        licence=described.licence,
        description=known.description if known else "",
    )


def rm(models: Names, *, yes: Yes = False, json: Json = False) -> None:
    """Remove models with their packed weights, and what is left of interrupted pulls. Files of your own stay.

    \b
    Example:
      lepton rm smollm2 --yes
    """
    home = Environment.read().home
    library, cache = Library(home), PackedCache(home)
    names = list(dict.fromkeys(canonical_name(name) or name for name in models))
    for name in names:
        if not library.has_files(name):
            raise ModelNotFound(f"model: {name!r} is not on this machine", param="model")
    if not yes:
        _confirm(names)
    removed = [{"name": name, "freed_bytes": _remove(name, library, cache)} for name in names]
    if json:
        print_json({"removed": removed})
        return
    print_note(f"removed {', '.join(names)}")


def _remove(name: str, library: Library, cache: PackedCache) -> int:
    known, installed = find_model(name), library.find(name)
    here = installed or (known.manifest if isinstance(known, KnownModel) else None)
    return library.remove(name) + (cache.forget(here.sha256) if here else 0)


def _confirm(names: list[str]) -> None:
    if not sys.stdin.isatty():
        raise InvalidRequest("--yes: expected it, for there is no terminal to ask on", param="yes")
    if not ask(f"Remove {', '.join(names)}?"):
        raise typer.Exit(1)
