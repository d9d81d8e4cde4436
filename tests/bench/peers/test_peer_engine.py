from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from bench.peers.engine import Engine, Setting
from bench.peers.engines import LEPTON, LLAMA_CPP

from bench.peers import environments


def test_a_fingerprint_changes_with_what_rates_depend_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    base = LLAMA_CPP.fingerprint(None)
    assert base == LLAMA_CPP.fingerprint(None)
    others = (
        LLAMA_CPP.fingerprint("avx2"),
        replace(LLAMA_CPP, options=("--other",)).fingerprint(None),
        replace(LLAMA_CPP, settings=LLAMA_CPP.settings[:1]).fingerprint(None),
        LEPTON.fingerprint(None),
        LEPTON.fingerprint("avx2"),
    )
    assert len({base, *others}) == len(others) + 1
    launches = (LLAMA_CPP.launch_fingerprint(), LEPTON.launch_fingerprint())
    assert len({*launches, replace(LLAMA_CPP, start_script=None).launch_fingerprint(), base}) == 4
    monkeypatch.setattr(environments, "REQUIREMENTS", tmp_path)
    (tmp_path / "llama_cpp.txt").write_text("llama-cpp-python==9\n")
    assert LLAMA_CPP.fingerprint(None) != base


def test_a_worker_runs_in_its_environment_with_its_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[list[str], dict[str, str]]] = []
    monkeypatch.setattr("bench.peers.engine.Worker", lambda command, variables: started.append((command, variables)))
    monkeypatch.setattr(environments, "ensure", lambda name: Path("/environments") / name)
    engine = Engine(name="Peer", module="peer_worker", environment="peer", options=("--a",))
    setting = Setting("b", ("--b",), {"B": "1"})
    engine.start(Path("model"), 2, setting=setting, isa=None)
    engine.start(Path("model"), 2, setting=replace(setting, environment="other"), isa="avx2")
    arguments = ["-m", "bench.peers.workers.peer_worker", "--model", "model", "--threads", "2", "--a", "--b"]
    assert started == [
        (["/environments/peer", *arguments], {"B": "1"}),
        (["/environments/other-avx2", *arguments], {"B": "1"}),
    ]
    started.clear()
    LEPTON.start(Path("model"), 2, setting=LEPTON.settings[0], isa="avx2")
    assert started[0][1] == {"LEPTON_CPU_ISA": "avx2"}
