"""Write docs/cli.md, the reference of the command line, from the application itself.

    .venv/bin/python scripts/make_cli_reference.py

tests/test_make_cli_reference.py holds the page to it. Environment variables stand once, in docs/configuration.md; the
page repeats that table.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Protocol, cast, get_args, get_type_hints

import typer

from lepton_ai.cli.main import build_app
from lepton_ai.cli.verbs import VERBS, Verb

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGE = DOCS / "cli.md"

_INTRODUCTION = """\
# Command line

`lepton VERB --help` says the same as this page, which is made from the program by `scripts/make_cli_reference.py`.

An error is one line on standard error that ends with its code, such as `[model_not_found]`, and an
[exit status](configuration.md#exit-status). What a `MODEL` may be: [models and checkpoints](models.md#names).
"""


_TYPES: Mapping[type, str] = MappingProxyType({int: "integer", float: "number", str: "text", Path: "path"})


class Parameter(Protocol):
    """What this script reads of an argument or an option of typer's."""

    name: str
    param_type_name: str
    opts: Sequence[str]
    secondary_opts: Sequence[str]
    metavar: str | None
    type: object
    default: object
    required: bool
    is_flag: bool
    help: str | None


class Command(Protocol):
    """What it reads of a verb, and of the application."""

    help: str | None
    params: Sequence[Parameter]
    commands: Mapping[str, Command]


def make_page() -> str:
    """The whole page."""
    root = cast(Command, typer.main.get_command(build_app([verb.name for verb in VERBS])))
    lines = [_INTRODUCTION, "Before the verb, `--debug` also behind it:", "", *_options(root.params, {}), ""]
    for verb in VERBS:
        lines += _section(verb, root.commands[verb.name])
    variables = _table((DOCS / "configuration.md").read_text(encoding="utf-8"), "Environment variables of Lepton")
    lines += ["## Environment variables", "", *variables, ""]
    lines.append("Those of pip and of the hub are honoured too: [configuration](configuration.md).")
    return "\n".join(lines) + "\n"


def _section(verb: Verb, command: Command) -> list[str]:
    """One verb: usage, help, examples, parameters."""
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option"]
    needed = [f"{p.opts[0]} {p.name.upper()}" for p in options if p.required]
    usage = " ".join(("lepton", verb.name, *(p.metavar or "" for p in arguments), *needed, "[OPTIONS]"))
    text, _, examples = (command.help or "").partition("\b\n")
    lines = [f"## lepton {verb.name}", "", "```sh", usage, "```", "", text.strip(), ""]
    if examples:
        lines += ["```sh", *(line.strip() for line in examples.splitlines()[1:]), "```", ""]
    if arguments:
        rows = [f"| `{p.metavar}` | {_cell(p.help)} |" for p in arguments]
        lines += ["| argument | meaning |", "| --- | --- |", *rows, ""]
    return [*lines, *_options(options, get_type_hints(verb.load())), ""]


def _options(options: Sequence[Parameter], types: Mapping[str, object]) -> list[str]:
    """The table of options; ``types`` are those of the verb's parameters."""
    rows = []
    for option in options:
        spelling = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
        value = "" if option.is_flag else _value(option, types[option.name])
        rows.append(f"| {spelling} | {value} | {_default(option)} | {_cell(option.help)} |")
    return ["| option | value | default | meaning |", "| --- | --- | --- | --- |", *rows]


def _value(option: Parameter, annotation: object) -> str:
    """What may be given: the alternatives, or a type with its bounds."""
    choices = getattr(option.type, "choices", ())
    if option.metavar or choices:
        names = option.metavar.split("|") if option.metavar else [_plain(choice) for choice in choices]
        return ", ".join(f"`{name}`" for name in names)
    while inner := get_args(annotation):  # int | None, list[str] | None
        annotation = inner[0]
    word = _TYPES[cast(type, annotation)]
    least, most = (getattr(option.type, name, None) for name in ("min", "max"))
    return word + (f", at least {least}" if least is not None else "") + (f", at most {most}" if most else "")


def _default(option: Parameter) -> str:
    if option.required:
        return "required"
    return "" if option.default is None or option.is_flag else f"`{_plain(option.default)}`"


def _plain(value: object) -> str:
    return str(value.value if isinstance(value, enum.Enum) else value)


def _cell(text: str | None) -> str:
    """A bar would end the cell."""
    return (text or "").replace("|", "\\|")


def _table(page: str, heading: str) -> Sequence[str]:
    """The lines of the first table under a heading of a page."""
    match = re.search(rf"^## {re.escape(heading)}\n\n((?:\|.*\n)+)", page, re.MULTILINE)
    assert match, heading
    return match[1].splitlines()


if __name__ == "__main__":
    PAGE.write_text(make_page(), encoding="utf-8")
