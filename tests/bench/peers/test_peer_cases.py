from __future__ import annotations

from itertools import pairwise

from bench.peers.cases import Table, all_cases
from bench.peers.engines import ENCODER_REFERENCE, encoder_peers

CASES = all_cases(frozenset(("avx512_bf16",)))


def test_names_are_unique_and_can_be_typed() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)
    assert not [name for name in names if set(name) & set(" ,*?[")]
    assert "smollm2-q4_0/decode-16/llama.cpp" in names
    assert "smollm2-q4_0/prefill-4096/prefill-512" in names


def test_a_goal_names_a_case_that_has_one() -> None:
    by_name = {case.name: case for case in CASES}
    others = [case.target.other for case in CASES if case.target.other]
    assert others == ["smollm2-q4_0/decode-1/memory"]
    assert by_name[others[0]].target.goal == 0.8


def test_a_goal_is_not_below_what_must_be_reached() -> None:
    for case in CASES:
        if case.target.must and case.target.goal:
            assert case.target.must < case.target.goal, case.name


def test_cases_on_one_file_come_together() -> None:
    for table in Table:
        models = [case.subject.name for case in CASES if case.table is table]
        changes = sum(a != b for a, b in pairwise(models))
        limit = len(set(models)) if table is Table.LIMITS else len(set(models)) - 1
        assert changes <= limit, table


def test_the_short_form_is_llama_cpp_on_one_model_and_encoders() -> None:
    short = [case for case in CASES if case.is_short]
    assert {case.subject.model for case in short} == {"smollm2", "minilm"}
    assert {case.theirs.name for case in short if case.table is Table.GENERATION} == {"llama.cpp"}


def test_bf16_is_for_processors_that_have_it() -> None:
    without, with_it = encoder_peers(frozenset(("avx2",))), encoder_peers(frozenset(("avx512_bf16",)))
    assert [peer.name for peer in with_it] == [*(peer.name for peer in without), "OpenVINO bf16"]
    assert not any("bf16" in peer.options for peer in without)
    assert [peer.name for peer in with_it if "bf16" in peer.options] == ["OpenVINO int8", "OpenVINO bf16"]
    assert ENCODER_REFERENCE in without
