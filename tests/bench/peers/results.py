"""Cases and outcomes that nothing has measured."""

from __future__ import annotations

from bench.peers.cases import Case, Table, Target
from bench.peers.engines import LEPTON, LLAMA_CPP
from bench.peers.pairs import PairedRates
from bench.peers.store import Contender, Measurement
from bench.peers.subjects import MINILM, SMOLLM2_Q4_0
from bench.peers.workloads import DECODE, Workload
from bench.serving import EngineInfo

OURS = EngineInfo("Lepton", "Lepton 1.0", "avx2", 2, "ours-1")
THEIRS = EngineInfo("llama.cpp", "llama-cpp-python 2", "", 2, "theirs-1")


def case(target: Target, workload: Workload = DECODE, *, table: Table = Table.GENERATION) -> Case:
    subject = MINILM if table is Table.ENCODERS else SMOLLM2_Q4_0
    return Case(table=table, subject=subject, workload=workload, ours=LEPTON, theirs=LLAMA_CPP, target=target)


def measurement(ratio: float, *, our_quality: float | None = 0.00123) -> Measurement:
    rates = PairedRates((ratio * 100,) * 3, (100.0,) * 3)
    theirs = Contender(THEIRS, None, "plain attention", {"plain attention": 100.0, "flash attention": 90.0})
    return Measurement(Contender(OURS, our_quality), theirs, rates, "0123456789abcdef", 4.5, 8.5, "2026-01-02", 12.5)
