from __future__ import annotations

import io
import json

from bench.peers.cases import Table, Target
from bench.peers.encoder_workloads import batch
from bench.peers.outcomes import Failure, Results, Verdict
from bench.peers.report import cells, heads, markdown_table, print_tables, to_json, versions
from bench.peers.workloads import DECODE, DECODE_4, DECODE_16, DECODE_32
from rich.console import Console
from tests.bench.peers.results import case, measurement

REACHED = case(Target(1.8, 2.5))
FAILED = case(Target(2.0), DECODE_4)
UNKNOWN = case(Target(2.0), DECODE_16)
MISSED = case(Target(2.0), DECODE_32)
RESULTS = Results(
    (REACHED, FAILED, UNKNOWN, MISSED),
    {
        REACHED.name: measurement(2.0),
        FAILED.name: Failure("cannot | load"),
        UNKNOWN.name: None,
        MISSED.name: measurement(1.0),
    },
)


def test_targets_are_held_against_the_lower_bound() -> None:
    assert RESULTS.verdict(REACHED) == Verdict(must=True, goal=False)
    assert RESULTS.verdict(MISSED) == Verdict(must=False, goal=None)
    assert RESULTS.verdict(FAILED) == RESULTS.verdict(UNKNOWN) == Verdict(must=None, goal=None)
    assert not RESULTS.are_good
    assert Results((REACHED,), {REACHED.name: measurement(1.8)}).are_good
    assert not Results((FAILED,), RESULTS.outcomes).are_good
    assert not Results((UNKNOWN,), RESULTS.outcomes).are_good


def test_a_goal_may_be_reached_by_another_case() -> None:
    other = case(Target(goal=0.8), DECODE_4)
    either = case(Target(1.0, 3.0, other=other.name))
    for ratio, is_reached in ((0.8, True), (0.7, False)):
        results = Results((either, other), {either.name: measurement(2.0), other.name: measurement(ratio)})
        assert results.verdict(either) == Verdict(must=True, goal=is_reached)


def test_an_encoder_whose_vectors_are_far_off_has_missed_its_target() -> None:
    encoder = case(Target(1.2, 1.5), batch(1, 16), table=Table.ENCODERS)
    for cosine, is_reached in ((0.9991, True), (0.9989, False)):
        results = Results((encoder,), {encoder.name: measurement(2.0, our_quality=cosine)})
        assert results.verdict(encoder) == Verdict(must=is_reached, goal=is_reached)


def test_cells_stand_under_their_columns() -> None:
    assert list(zip(heads(Table.GENERATION), cells(RESULTS, REACHED), strict=True)) == [
        ("file", "SmolLM2 Q4_0"),
        ("sha256", "0123456789ab"),
        ("body / head bits", "4.50 / 8.50"),
        ("workload", DECODE.name),
        ("Lepton tok/s", "200"),
        ("KL", "0.0012"),
        ("peer", "llama.cpp"),
        ("setting", "plain attention"),
        ("peer tok/s", "100"),
        ("KL", "-"),
        ("ratio", "2.00 (2.00-2.00)"),
        ("must", "1.8 reached"),
        ("goal", "2.5 missed"),
    ]
    for table in Table:
        of_table = case(Target(), DECODE, table=table)
        results = Results((of_table,), {of_table.name: measurement(2.0)})
        assert len(cells(results, of_table)) == len(heads(table))


def test_what_failed_and_what_is_missing_stays_in_the_table() -> None:
    assert cells(RESULTS, FAILED)[-3:] == ["failed: cannot | load", "2", "-"]
    assert cells(RESULTS, UNKNOWN)[-3:] == ["not measured", "2", "-"]
    lines = markdown_table(RESULTS, Table.GENERATION).splitlines()
    assert [line.count("|") for line in lines] == [len(heads(Table.GENERATION)) + 1] * 6
    console = Console(file=io.StringIO(), width=250)
    print_tables(RESULTS, console)
    assert isinstance(console.file, io.StringIO)
    printed = console.file.getvalue()
    assert "failed: cannot | load" in printed and "2 missed" in printed


def test_versions_are_named_once() -> None:
    assert versions(RESULTS) == ["Lepton 1.0 (avx2)", "llama-cpp-python 2"]


def test_json_holds_the_figures() -> None:
    reached, failed, unknown, _ = json.loads(json.dumps(to_json(RESULTS)))
    assert reached["is_reached"] == {"must": True, "goal": False}
    assert (reached["ratio"], reached["interval"], reached["unit"]) == (2.0, [2.0, 2.0], "tok/s")
    assert reached["measurement"]["theirs"]["trials"] == {"plain attention": 100.0, "flash attention": 90.0}
    assert failed["failure"] == "cannot | load"
    assert "failure" not in unknown and "measurement" not in unknown
