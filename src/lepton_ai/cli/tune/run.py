"""``lepton tune``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Annotated

import typer

from lepton_ai.backends.cpu.cores import usable_cores
from lepton_ai.backends.cpu.host import read_host
from lepton_ai.backends.cpu.tuned_host import StoredTuning, native_digest, remove_tuning, write_tuning
from lepton_ai.cli.loading import OnDemandProgress
from lepton_ai.cli.measuring import measuring
from lepton_ai.cli.options import Json
from lepton_ai.cli.output import print_json, print_line
from lepton_ai.cli.tune.choice import MIN_ROUNDS
from lepton_ai.cli.tune.loads import MAX_MODEL_LEN, NUM_REQUESTS, PROMPT_TOKENS
from lepton_ai.cli.tune.report import (
    describe_comparison,
    describe_found,
    describe_setting,
    print_found,
    print_suggestions,
)
from lepton_ai.cli.tune.search import Found, Setting, axes_of, candidate_threads, search
from lepton_ai.cli.tune.session import Session
from lepton_ai.cli.tune.suggestions import Suggestion, alternatives, measure_suggestions
from lepton_ai.config import Environment
from lepton_ai.engine.load_options import LoadOptions
from lepton_ai.engine.loading import LoadedModel, load
from lepton_ai.errors import InvalidRequest
from lepton_ai.models.encoder import EncoderModel
from lepton_ai.models.registry import read_model
from lepton_ai.version import __version__
from lepton_ai.weights.checkpoint import open_checkpoint
from lepton_ai.weights.sources.resolve import resolve

_DEFAULT_MODEL = "smollm2"

Model = Annotated[
    str | None,
    typer.Argument(metavar="[MODEL]", help="What the trials run, as for `lepton run`. Default: smollm2."),
]
Rounds = Annotated[
    int, typer.Option("--rounds", min=MIN_ROUNDS, help="How often every candidate runs beside the others.")
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of the random prompt.")]
Reset = Annotated[bool, typer.Option("--reset", help="Remove what is stored instead: the defaults hold again.")]


def tune(model: Model = None, *, rounds: Rounds = 15, seed: Seed = 0, reset: Reset = False, json: Json = False) -> None:
    """Find out by short trials what is fastest on this machine, among what changes no bit of any result, and keep it.

    Threads, how far ahead weights are asked for, how many rows share one unpacking of them, from how many rows on
    products go by tiles, and how products are cut between threads: one after the other, each value runs in turn with
    the others, with one request that decodes, with sixteen, and with a prompt of 512 tokens. A value is taken only if
    it is clearly faster, and all of them together only if they are faster than the defaults. The winner and all that
    was measured go to tuning.json in LEPTON_HOME, which every later start on this machine obeys; `lepton doctor` shows
    it.

    What would be faster and changes results, the type of the KV cache and the policy, is measured and said, and not
    changed. Best while the machine does nothing else: some minutes, or more with a large model.

    \b
    Examples:
      lepton tune
      lepton tune qwen2.5-coder-1.5b --rounds 25
      lepton tune --reset
    """
    environment = Environment.read()
    if reset:
        if model is not None:
            raise InvalidRequest("MODEL: expected none with --reset, which measures nothing", param="model")
        _reset(environment, as_json=json)
        return
    name = model or _DEFAULT_MODEL
    with _load(name, environment) as loaded:
        found, suggestions, default = _measure(loaded, environment, rounds, seed)
    evidence: dict[str, object] = {
        "model": name,
        "digest": loaded.checkpoint.digest,
        "lepton": __version__,
        "measured_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "rounds": rounds,
        "default": describe_setting(default),
        **describe_found(found),
        "suggestions": [
            {"option": each.option, "text": each.text, **describe_comparison(each.comparison)} for each in suggestions
        ],
    }
    stored = StoredTuning(
        host=read_host(),
        native=native_digest(environment.home),
        isa=loaded.device.isa,
        num_threads=found.chosen.num_threads,
        tuning=found.chosen.tuning,
        evidence=evidence,
    )
    path = write_tuning(environment.home, stored)
    if json:
        print_json({"path": str(path), **asdict(stored)})
        return
    print_found(found, default)
    print_line(f"stored in {path}")
    if suggestions:
        print_line()
        print_suggestions(suggestions)


def _reset(environment: Environment, *, as_json: bool) -> None:
    is_removed = remove_tuning(environment.home)
    if as_json:
        print_json({"removed": is_removed})
    else:
        print_line("removed: the defaults hold" if is_removed else "there is none: the defaults hold")


@contextmanager
def _load(name: str, environment: Environment) -> Iterator[LoadedModel]:
    """The model with room for the trials. Raises InvalidRequest for one that they cannot run."""
    _check(name, environment)
    options = LoadOptions(
        max_num_seqs=NUM_REQUESTS,
        max_tokens_per_step=PROMPT_TOKENS,
        max_model_len=MAX_MODEL_LEN,
        progress=OnDemandProgress(),
    )
    loaded = load(name, options, environment)
    options.progress.finish()
    try:
        yield loaded
    finally:
        loaded.close()


def _check(name: str, environment: Environment) -> None:
    with open_checkpoint(resolve(name, environment, OnDemandProgress()), environment.home) as checkpoint:
        model, _ = read_model(checkpoint)
    if isinstance(model, EncoderModel):
        raise InvalidRequest("MODEL: expected one that generates, got an encoder", param="model")
    if model.config.context_length < MAX_MODEL_LEN:
        raise InvalidRequest(
            f"MODEL: expected a context of at least {MAX_MODEL_LEN} tokens, got {model.config.context_length}",
            param="model",
        )


def _measure(
    loaded: LoadedModel, environment: Environment, rounds: int, seed: int
) -> tuple[Found, list[Suggestion], Setting]:
    """What was found, what is suggested, and the defaults that both were held against."""
    cores = environment.num_threads or usable_cores()
    progress = measuring(counts=False)
    session = Session(loaded, num_threads=cores, num_rounds=rounds, seed=seed, progress=progress)
    threads = (cores,) if environment.num_threads else candidate_threads(cores)
    axes = axes_of(session.isa, threads)
    expected_s = session.expected_s(axes, len(alternatives(session.decoder)))
    progress.start(f"for about {expected_s:.0f} seconds", expected_s)
    try:
        found = search(session.measure, session.default, axes)
        return found, measure_suggestions(session, found.chosen), session.default
    finally:
        progress.finish()
