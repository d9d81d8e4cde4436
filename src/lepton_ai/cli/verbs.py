"""The verbs of the command line. A new verb is one line here and one module."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Verb:
    """A verb: its function is imported when it is called, so that no verb pays for the imports of another.

    The function's parameters are its options (see cli/options.py) and its docstring is its help. A name of two words,
    such as ``bench serve``, is a verb of its own beside ``bench``.
    """

    name: str
    module: str
    function: str
    summary: str

    def load(self) -> Callable[..., None]:
        """Import and return the function."""
        function: Callable[..., None] = getattr(importlib.import_module(f"lepton_ai.cli.{self.module}"), self.function)
        return function


VERBS: tuple[Verb, ...] = (
    Verb("pull", "pull", "pull", "Fetch a model."),
    Verb("list", "models", "list_models", "List the models that are here, and those that can be pulled."),
    Verb("rm", "models", "rm", "Remove models from this machine."),
    Verb("run", "run", "run", "Talk to a model."),
    Verb("embed", "embed", "embed", "Turn texts into vectors, and show how alike they are."),
    Verb("classify", "classify", "classify", "Say which class texts have, by a trained classifier."),
    Verb("serve", "serve", "serve", "Serve models over HTTP."),
    Verb("keys", "keys", "keys", "Make, list and remove the keys of a server."),
    Verb("inspect", "inspect", "inspect", "Show what is in a model file, and how it would run."),
    Verb("doctor", "doctor", "doctor", "Show what this machine offers, what is used and why, and how fast it is."),
    Verb("tune", "tune.run", "tune", "Find out what is fastest on this machine, and keep it."),
    Verb("bench", "bench", "bench", "Measure how fast a model runs here."),
    Verb("bench serve", "bench_serve", "bench_serve", "Measure a server under load."),
    Verb("eval", "evaluate", "evaluate", "Measure how well a model predicts a text, and how far it is from another."),
)


def join_verb(args: Sequence[str], verbs: Sequence[Verb]) -> tuple[str, ...]:
    """The arguments, with a verb of two words as one of them."""
    first = next((index for index, arg in enumerate(args) if not arg.startswith("-")), len(args))
    name = " ".join(args[first : first + 2])
    is_verb = any(verb.name == name for verb in verbs)
    return (*args[:first], name, *args[first + 2 :]) if is_verb else tuple(args)
