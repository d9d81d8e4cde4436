from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from bench.peers.store import Store
from tests.bench.peers.results import measurement

NAME = "model/decode-1/peer"
FACTS = {"model": "digest", "num_pairs": 9, "host": {"isas": ("avx2",)}}


def test_what_was_measured_is_found_again(tmp_path: Path) -> None:
    store = Store(tmp_path / "folder")
    assert store.find(NAME, FACTS) is None
    store.add(NAME, FACTS, measurement(2.0))
    assert Store(tmp_path / "folder").find(NAME, FACTS) == measurement(2.0)
    assert [path.suffix for path in (tmp_path / "folder").iterdir()] == [".json"]


def test_anything_else_that_it_depends_on_is_another_measurement(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.add(NAME, FACTS, measurement(2.0))
    assert store.find("model/decode-16/peer", FACTS) is None
    for other in ({"model": "other"}, {"num_pairs": 3}, {"host": {"isas": ()}}):
        assert store.find(NAME, {**FACTS, **other}) is None
    store.add(NAME, {**FACTS, "num_pairs": 3}, measurement(3.0))
    assert store.find(NAME, FACTS) == measurement(2.0)


def test_the_last_measurement_says_how_long_the_case_takes(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.last_elapsed_s(NAME) is None
    for number, elapsed_s in ((1, 40.0), (2, 30.0)):
        store.add(NAME, {"number": number}, replace(measurement(1.0), elapsed_s=elapsed_s))
        newest = max(tmp_path.iterdir(), key=lambda path: path.stat().st_ino)
        os.utime(newest, (number, number))
    store.add("model/decode-1/peer-2", FACTS, replace(measurement(1.0), elapsed_s=1.0))
    assert store.last_elapsed_s(NAME) == 30.0
