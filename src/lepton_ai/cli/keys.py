"""``lepton keys``: the file of keys that ``lepton serve --api-keys`` reads."""

from __future__ import annotations

import enum
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lepton_ai.cli.options import Json
from lepton_ai.cli.output import print_json, print_line, print_note
from lepton_ai.errors import InvalidRequest
from lepton_ai.weights.sources.storage import exclusive

if TYPE_CHECKING:
    from lepton_ai.serve.access.keys import Key


class Action(str, enum.Enum):
    """What is done with the file."""

    NEW = "new"
    LIST = "list"
    REMOVE = "remove"


ActionName = Annotated[
    Action, typer.Argument(metavar="ACTION", help="What is done with the file: new, list or remove.")
]
KeyName = Annotated[str | None, typer.Argument(metavar="[NAME]", help="Whose key it is, as logs call it.")]
File = Annotated[Path, typer.Option("--file", help="The file of keys; new makes it if it is not there.")]
Scopes = Annotated[
    list[str] | None,
    typer.Option(
        "--scope",
        metavar="inference|models|metrics|admin",
        help="What a new key opens. Default: inference and models. May be repeated.",
    ),
]
RequestsPerMinute = Annotated[int | None, typer.Option(min=1, help="Requests that a new key may make in a minute.")]
TokensPerMinute = Annotated[int | None, typer.Option(min=1, help="Tokens that a new key may use in a minute.")]
Expires = Annotated[str | None, typer.Option(metavar="DATE", help="Last day of a new key, in UTC, such as 2030-12-31.")]


def keys(
    action: ActionName,
    name: KeyName = None,
    *,
    file: File = Path("keys.json"),
    scope: Scopes = None,
    requests_per_minute: RequestsPerMinute = None,
    tokens_per_minute: TokensPerMinute = None,
    expires: Expires = None,
    json: Json = False,
) -> None:
    """Make a key for `lepton serve`, list those of a file, or remove one. A server that runs takes notice by itself.

    The file has digests alone: a new key is printed once, on standard output, and can be had from nowhere again.

    \b
    Examples:
      lepton keys new web --requests-per-minute 60 --tokens-per-minute 20000
      lepton keys list
      lepton keys remove web
    """
    limits = {"requests_per_minute": requests_per_minute, "tokens_per_minute": tokens_per_minute}
    known_limits = {kind: limit for kind, limit in limits.items() if limit is not None}
    wanted: dict[str, object] = {"scopes": scope or None, "limits": known_limits or None, "expires": expires}
    more = {field: value for field, value in wanted.items() if value is not None}
    match action, name:
        case Action.NEW, str(name):
            _new(file, name, more, as_json=json)
        case _ if more:
            raise InvalidRequest(f"keys: expected no options of a new key beside {action.value}", param="action")
        case Action.LIST, None:
            _list(file, as_json=json)
        case Action.REMOVE, str(name):
            _remove(file, name, as_json=json)
        case _:
            raise InvalidRequest("keys: expected a NAME for new and remove, and none for list", param="name")


def _new(file: Path, name: str, more: dict[str, object], *, as_json: bool) -> None:
    from lepton_ai.serve.access.key_file import parse_key, read_keys, write_keys
    from lepton_ai.serve.access.keys import digest, new_secret

    secret = new_secret()
    key = parse_key({"name": name, "sha256": digest(secret)} | more, "key")
    with _locked(file):
        known = read_keys(file, may_be_empty=True) if file.exists() else []
        if name in {each.name for each in known}:
            raise InvalidRequest(f"name: expected one that {file} does not have, got {name!r}", param="name")
        write_keys(file, [*known, key])
    if as_json:
        print_json({"file": str(file), "secret": secret, "key": _described(key)})
    else:
        print_note(f"{file} has the digest of this key of {name}, which is shown once:")
        print_line(secret)


def _list(file: Path, *, as_json: bool) -> None:
    from lepton_ai.serve.access.key_file import read_keys

    rows = [_described(key) for key in read_keys(file, may_be_empty=True)]
    if as_json:
        print_json({"file": str(file), "keys": rows})
        return
    for row in rows:
        print_line("  ".join(_shown(row)))


def _remove(file: Path, name: str, *, as_json: bool) -> None:
    from lepton_ai.serve.access.key_file import read_keys, write_keys

    with _locked(file):
        known = read_keys(file, may_be_empty=True)
        kept = [key for key in known if key.name != name]
        if len(kept) == len(known):
            raise InvalidRequest(f"name: expected one that {file} has, got {name!r:.80}", param="name")
        write_keys(file, kept)
    if as_json:
        print_json({"file": str(file), "removed": name})
    else:
        print_note(f"removed {name}")


def _locked(file: Path) -> AbstractContextManager[None]:
    """Two commands at once would each write what the other does not know."""
    lock = file.resolve()
    return exclusive(lock.with_name(f".{lock.name}.lock"), on_wait=lambda: print_note(f"waiting for {file}"))


def _described(key: Key) -> dict[str, object]:
    from lepton_ai.serve.access.key_file import describe_key

    return {field: value for field, value in describe_key(key).items() if field != "sha256"}


def _shown(row: dict[str, object]) -> list[str]:
    limits = row.get("limits", {})
    assert isinstance(limits, dict) and isinstance(row["scopes"], list)
    shown = [str(row["name"]), ",".join(row["scopes"])]
    shown += [f"{limit} {kind.replace('_', ' ')}" for kind, limit in limits.items()]
    return shown + ([f"until {row['expires']}"] if "expires" in row else [])
