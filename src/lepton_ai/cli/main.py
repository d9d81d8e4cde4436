"""The entry point of ``lepton``: finds the verb, and turns every error into one line and an exit status.

Exit status: 0 done; 1 a LeptonError; 2 wrong arguments; 70 a defect of Lepton; 130 interrupted; 141 nobody reads.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, NoReturn, cast

import typer

from lepton_ai.cli.output import print_json, print_line, printable
from lepton_ai.cli.verbs import VERBS, join_verb
from lepton_ai.errors import InvalidRequest, LeptonError
from lepton_ai.huge_pages import restart_with_huge_pages
from lepton_ai.version import __version__

# The base of typer's usage errors; it has a public name in its newest releases only.
_UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[1])
_FAILED, _USAGE, _DEFECT, _INTERRUPTED, _READER_GONE = 1, 2, 70, 130, 141


@dataclass(frozen=True, slots=True)
class Invocation:
    """The arguments, and the two flags that shape how an error is reported, wherever they stand."""

    args: tuple[str, ...]
    wants_json: bool
    wants_traceback: bool

    @classmethod
    def parse(cls, argv: Sequence[str]) -> Invocation:
        """``--debug`` belongs to no verb and is taken out; ``--json`` is left for its verb."""
        end = argv.index("--") if "--" in argv else len(argv)
        options = argv[:end]
        args = join_verb((*(arg for arg in options if arg != "--debug"), *argv[end:]), VERBS)
        return cls(args, wants_json="--json" in options, wants_traceback="--debug" in options)


def run() -> NoReturn:
    """The console script.

    All is closed when ``main`` returns, so the process ends there: to take the interpreter apart, object by object,
    would take longer than the first tokens of an answer.
    """
    # No verb multiplies matrices with NumPy, whose threads would spin beside those that run the model.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if Invocation.parse(sys.argv[1:]).args[:1] == ("serve",):
        restart_with_huge_pages()
    status = main(sys.argv[1:])
    with suppress(OSError):  # ``main`` reported what cannot be written
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


def main(argv: Sequence[str]) -> int:
    """Run one command. Returns its exit status; prints, but raises nothing."""
    try:
        return _run(Invocation.parse(argv))
    except BrokenPipeError:
        # What is still buffered can be written nowhere: without this, the interpreter would try again, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _READER_GONE
    except KeyboardInterrupt:
        return _INTERRUPTED


def _run(invocation: Invocation) -> int:
    try:
        status = _dispatch(invocation)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        raise
    except LeptonError as error:
        _report(error, invocation)
        return _USAGE if type(error) is InvalidRequest else _FAILED
    except Exception as error:
        text = f"{type(error).__name__}: {error}".rstrip(": ")
        _report(LeptonError(f"{text}; this is a defect of Lepton, --debug shows where"), invocation)
        return _DEFECT


def _report(error: LeptonError, invocation: Invocation) -> None:
    if invocation.wants_traceback:
        traceback.print_exc()
    if invocation.wants_json:
        print_json({"error": error.to_dict()})
        sys.stdout.flush()
        return
    from rich.console import Console
    from rich.text import Text

    line = Text.assemble(("error:", "bold red"), f" {printable(error.message)} [{error.code}]")
    Console(stderr=True, soft_wrap=True).print(line)


def _dispatch(invocation: Invocation) -> int:
    """Parse and call, without typer's own error pages. Raises whatever the verb raises."""
    command = typer.main.get_command(build_app(invocation.args))
    try:
        with command.make_context("lepton", list(invocation.args)) as context:
            command.invoke(context)
    except typer.Exit as error:
        return error.exit_code
    except typer.Abort:  # Ctrl-C or end of input at a question
        return _INTERRUPTED
    except _UsageError as error:
        verb = error.ctx.command_path if error.ctx else "lepton"
        raise InvalidRequest(f"{error.format_message().rstrip('.')}; see {verb} --help") from None
    return 0


def build_app(args: Sequence[str]) -> typer.Typer:
    """The application for these arguments: a verb that they do not name is there with its summary, not imported."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.callback(invoke_without_command=True)(_lepton)
    for verb in VERBS:
        function = verb.load() if verb.name in args else _not_named
        app.command(verb.name, short_help=verb.summary)(function)
    return app


def _not_named() -> None:
    raise AssertionError("a verb was called that the arguments do not name")


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        print_line(f"lepton {__version__}")
        raise typer.Exit


def _lepton(
    context: typer.Context,
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error arose. May follow the verb.")] = False,
) -> None:
    """Run language models, small and fast, on the machine that you have."""
    if context.invoked_subcommand is None:
        sys.stdout.write(context.get_help() + "\n")
