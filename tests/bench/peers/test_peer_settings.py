from __future__ import annotations

import sys

import pytest
from bench.peers.engine import Setting
from bench.peers.settings import Trials, try_settings
from bench.peers.workloads import DECODE, PREFILL
from bench.worker import Worker, WorkerFailed

from bench.peers import settings

SPEEDS = {"slow": "1", "fast": "4", "middling": "2"}
SETTINGS = tuple(Setting(name, variables={"FAKE_SPEED": speed}) for name, speed in SPEEDS.items())


def start(setting: Setting) -> Worker:
    return Worker([sys.executable, "-m", "tests.bench.fake_worker"], setting.variables)


@pytest.fixture(autouse=True)
def settle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "SETTLE_S", 0.0)


def test_the_fastest_setting_is_found_and_all_rates_are_kept() -> None:
    expected = Trials("fast", {"slow": 1000.0, "fast": 4000.0, "middling": 2000.0})
    found = try_settings(SETTINGS, start, (PREFILL, DECODE), 1000)
    assert found == {PREFILL.name: expected, DECODE.name: expected}


def test_a_setting_that_does_not_run_is_an_error() -> None:
    broken = Setting("broken", variables={"FAKE_SPEED": "0"})
    with pytest.raises(WorkerFailed, match="ZeroDivisionError"):
        try_settings((*SETTINGS, broken), start, (PREFILL,), 1000)
