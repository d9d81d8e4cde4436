from __future__ import annotations

from itertools import pairwise

from bench.peers.cases import LEAST_COSINE, Table, all_cases
from bench.peers.engines import ENCODER_REFERENCE, encoder_peers

CASES = all_cases(frozenset(("avx512_bf16",)))


# What must be reached and what is aimed at. Seconds are held against one: their inverses stand here.
GOALS: dict[str, tuple[float | None, float | None]] = {
    "smollm2-q4_0/prefill-512/llama.cpp": (2.7, 3.5),
    "smollm2-q4_0/prefill-512/CTranslate2-int8": (None, 2.0),
    "smollm2-q4_0/decode-1/llama.cpp": (1.8, 2.1),
    "smollm2-q4_0/decode-1/memory": (None, 0.8),
    "smollm2-q4_0/decode-4/llama.cpp": (2.2, 2.6),
    "smollm2-q4_0/decode-16/llama.cpp": (2.5, 3.0),
    "smollm2-q4_0/decode-32/llama.cpp": (2.5, 3.0),
    "qwen2.5-coder-0.5b-q4_0/prefill-512/llama.cpp": (2.5, 3.0),
    "qwen2.5-coder-0.5b-q4_0/decode-1/llama.cpp": (1.4, None),
    "qwen2.5-coder-0.5b-q4_0/decode-1/memory": (None, 0.85),
    "qwen2.5-coder-0.5b-q4_0/decode-16/llama.cpp": (2.5, 3.2),
    "qwen2.5-coder-1.5b/prefill-512/llama.cpp": (2.0, 2.8),
    "qwen2.5-coder-1.5b/decode-1/llama.cpp": (1.2, None),
    "qwen2.5-coder-1.5b/decode-1/memory": (None, 0.85),
    "gemma3-270m/prefill-512/llama.cpp": (1.5, 2.5),
    "gemma3-270m/decode-1/llama.cpp": (1.5, 2.0),
    "smollm2-q4_0/prefill-4096/prefill-512": (0.7, 0.85),
    "smollm2-q4_0/prefill-512/transformers-f32": (4.0, 5.0),
    "smollm2-q4_0/decode-1/transformers-f32": (15.0, 20.0),
    "smollm2-q4_0/decode-16/transformers-f32": (30.0, 45.0),
    "smollm2/first-token/limit": (1 / 0.55, 1 / 0.4),
    "qwen2.5-coder-0.5b/first-token/limit": (1 / 0.95, 1 / 0.7),
} | {
    f"smollm2-q4_0/decode-1-after-{tokens}/{memory}": (0.6, 0.75)
    for tokens in (64, 1024, 4096)
    for memory in ("memory", "memory-f16-KV", "memory-int8-KV")
}
GENERATE = ("llama.cpp", "OpenVINO-GenAI-int4", "ONNX-Runtime-GenAI-int4", "CTranslate2-int8", "transformers-f32")
EMBED = ("ONNX-Runtime-int8", "OpenVINO-int8", "OpenVINO-f32", "OpenVINO-bf16", "CTranslate2-int8")


def test_targets() -> None:
    targets = {case.name: (case.target.must, case.target.goal) for case in CASES}
    expected = dict(GOALS)
    for model in ("smollm2", "qwen2.5-coder-0.5b"):
        expected |= {f"{model}/first-token/{peer}": (None, 1.0) for peer in GENERATE}
        expected |= {f"{model}/peak-memory/{peer}": (1.0, 1 / 0.7) for peer in GENERATE}
    for texts in ("1x16", "1x128", "32x16", "32x128"):
        expected |= {f"minilm/{texts}/{peer}": (1.2, 1.5) for peer in EMBED}
    assert {name: targets.get(name) for name in expected} == expected
    assert LEAST_COSINE == 0.999


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
