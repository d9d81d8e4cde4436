"""The verb, on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.conftest import Lepton
from tests.engine.published import SENTENCE_FILES, published_bert, write_files
from tests.engine.tiny_gguf import tiny_gguf

from lepton_ai.backends.cpu.device import choose_isa
from lepton_ai.backends.cpu.tuned_host import FILE_NAME, read_tuning
from lepton_ai.backends.cpu.tuning import Tuning
from lepton_ai.cli.tune import session, trials
from lepton_ai.cli.tune.choice import Comparison
from lepton_ai.config import Environment
from lepton_ai.engine.device import Device, tuned_cpu
from lepton_ai.errors import InvalidRequest


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_gguf(tmp_path_factory.mktemp("model") / "tiny.gguf", context_length=1024, window=64))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step a trial, and two threads whatever the machine has."""
    monkeypatch.setattr(trials, "_TRIAL_S", 0.0)
    monkeypatch.setenv("LEPTON_NUM_THREADS", "2")


def _row_blocks_win(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the clock say that 256 rows share an unpacking twice as fast, and nothing else matters."""
    real = trials.step_seconds

    def seconds(subject: trials.Subject, *args: object, **options: object) -> float:
        real(subject, *args, **options)  # type: ignore[arg-type]
        return 1.0 if "row_block=256" in subject.label else 2.0

    monkeypatch.setattr(trials, "step_seconds", seconds)
    monkeypatch.setattr(session, "step_seconds", seconds)


@pytest.mark.usefixtures("quick")
def test_what_wins_is_stored_and_obeyed(
    lepton: Lepton, model: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _row_blocks_win(monkeypatch)
    result = lepton("tune", model, "--rounds", "7", "--json")
    assert result.status == 0, result.err
    value = result.json()
    assert value["path"] == str(home / FILE_NAME) and value["isa"] == choose_isa(None) and value["num_threads"] == 2
    stored = read_tuning(home)
    assert stored is not None and stored.tuning.row_block == 256
    evidence = value["evidence"]
    assert isinstance(evidence, dict) and evidence["model"] == model and evidence["rounds"] == 7
    assert evidence["confirmation"]["loads"]["prompt 512"]["median_ratio"] == 0.5
    assert evidence["stages"][0]["name"] == "prefetch_bytes"  # LEPTON_NUM_THREADS fixes threads
    assert [each["option"] for each in evidence["suggestions"]] == ["--kv-dtype int8", "--policy fast"]

    environment = Environment.read()
    assert Device().cpu.tuning.row_block == 256
    assert tuned_cpu(environment, None).num_threads == 2 and tuned_cpu(environment, 1).num_threads == 1
    monkeypatch.delenv("LEPTON_NUM_THREADS")
    assert Device().cpu.num_threads == 2 and Device(num_threads=1).cpu.num_threads == 1
    monkeypatch.setenv("LEPTON_CPU_ISA", "generic")
    if choose_isa(None) != "generic":
        assert Device().cpu.tuning == Tuning.default("generic")


@pytest.mark.usefixtures("quick")
def test_for_people(lepton: Lepton, model: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _row_blocks_win(monkeypatch)
    result = lepton("tune", model, "--rounds", "7")
    assert result.status == 0, result.err
    default = Tuning.default(choose_isa(None)).row_block
    assert f"row_block 256 (default {default}) against the defaults: decode 1 x2.000 7/0" in result.out
    assert f"stored in {home / FILE_NAME}" in result.out
    assert "--kv-dtype int8 would change speed: " in result.out and "nats a token" in result.out
    assert "measuring for about" in result.err and "trying row_block" in result.err
    assert lepton("tune", "--reset").out == "removed: the defaults hold\n"
    assert lepton("tune", "--reset", "--json").json() == {"removed": False}


@pytest.mark.usefixtures("quick")
def test_nothing_that_wins(lepton: Lepton, model: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Comparison, "is_won", False)
    result = lepton("tune", model, "--rounds", "7")
    assert "Nothing is clearly faster than the defaults." in result.out
    stored = read_tuning(home)
    assert stored is not None and stored.tuning == Tuning.default(stored.isa)


def test_a_broken_file_stops_what_would_read_it(lepton: Lepton, model: str, home: Path) -> None:
    home.mkdir()
    (home / FILE_NAME).write_text(json.dumps({"version": 7}))
    refused = lepton("run", model, "--prompt", "x", "--max-tokens", "1")
    assert refused.status == 2
    assert f"{home / FILE_NAME}: version: expected 1, got 7; `lepton tune --reset` removes it" in refused.err
    with pytest.raises(InvalidRequest, match="version"):
        Device()
    assert lepton("tune", "--reset").status == 0
    assert lepton("run", model, "--prompt", "x", "--max-tokens", "1").status == 0


def test_arguments(lepton: Lepton, model: str, tmp_path: Path) -> None:
    both = lepton("tune", model, "--reset")
    assert both.status == 2 and "MODEL: expected none with --reset" in both.err
    few = lepton("tune", model, "--rounds", "6")
    assert few.status == 2 and "--rounds" in few.err
    encoder = lepton("tune", str(write_files(tmp_path / "bert", published_bert() | SENTENCE_FILES)))
    assert encoder.status == 2 and "MODEL: expected one that generates, got an encoder" in encoder.err


def test_a_model_of_too_little_context(lepton: Lepton, tmp_path: Path) -> None:
    short = lepton("tune", str(tiny_gguf(tmp_path / "short.gguf")))
    assert short.status == 2 and "MODEL: expected a context of at least 528 tokens, got 256" in short.err
