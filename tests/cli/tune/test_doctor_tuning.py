"""What ``lepton doctor`` says of tuning: what is in force, and from where."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lepton_ai.backends.cpu.device import choose_isa
from lepton_ai.backends.cpu.host import read_host
from lepton_ai.backends.cpu.tuned_host import FILE_NAME, StoredTuning, native_digest, write_tuning
from lepton_ai.backends.cpu.tuning import Tuning
from lepton_ai.cli.doctor import _tuning
from lepton_ai.cli.machine import Choice, choose_threads, read_processor, read_tuned
from lepton_ai.config import Environment


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return Environment(home=tmp_path, num_threads=None, cpu_isa=None, index_url=None)


def _stored(home: Path) -> StoredTuning:
    isa = choose_isa(None)
    return StoredTuning(
        host=read_host(),
        native=native_digest(home),
        isa=isa,
        num_threads=1,
        tuning=replace(Tuning.default(isa), row_block=192),
        evidence={"model": "smollm2", "measured_at": "2026-11-29T07:40:00+00:00"},
    )


def test_what_is_stored(environment: Environment) -> None:
    path = write_tuning(environment.home, _stored(environment.home))
    tuned = read_tuned(environment, choose_isa(None))
    assert (tuned.num_threads, tuned.changes, tuned.problem) == (1, {"row_block": 192}, None)
    assert _tuning(tuned) == f"row_block 192: {path}, measured 2026-11-29T07:40:00+00:00 smollm2"
    processor = read_processor()
    said = Choice("1", "tuning.json says so, which `lepton tune` made")
    assert choose_threads(processor, environment, None, tuned.num_threads) == said
    assert choose_threads(processor, environment, 2, tuned.num_threads).reason == "--threads asks for them"
    asked = replace(environment, num_threads=2)
    assert choose_threads(processor, asked, None, tuned.num_threads).value == "2"


def test_what_is_left_aside(environment: Environment) -> None:
    assert _tuning(read_tuned(environment, choose_isa(None))).startswith("defaults; `lepton tune` measures")
    write_tuning(environment.home, replace(_stored(environment.home), native="0" * 64))
    tuned = read_tuned(environment, choose_isa(None))
    assert (tuned.num_threads, tuned.changes) == (None, {})
    assert "another build" in _tuning(tuned)


def test_what_is_broken(environment: Environment) -> None:
    (environment.home / FILE_NAME).write_text("{}")
    tuned = read_tuned(environment, choose_isa(None))
    assert tuned.problem is not None and _tuning(tuned).startswith(f"unusable: {environment.home / FILE_NAME}: version")
