"""What the KV cache of an LLM holds: sizes, and that every use of a model reads what was written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.engine.test_llm import KV_BYTES_PER_TOKEN, greedy_by_logits
from tests.engine.tiny_gguf import tiny_gguf

from lepton_ai import LLM, SamplingParams
from lepton_ai.backends.cpu.backend import default_kv_dtype
from lepton_ai.backends.cpu.device import choose_isa
from lepton_ai.config import Environment, Policy
from lepton_ai.errors import InvalidRequest
from lepton_ai.graph.tensor import DType


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gguf(tmp_path_factory.mktemp("model") / "tiny.gguf")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEPTON_HOME", str(tmp_path / "home"))


@pytest.mark.parametrize(
    ("policy", "kv_dtype", "held", "bytes_per_value"),
    [
        ("exact", None, "f32", 4),
        ("auto", None, "as is fastest", 2),
        ("auto", "f16", "f16", 2),
        ("exact", "int16", "int16", 2 * (16 + 2) / 16),
        ("auto", "f32", "f32", 4),
        ("exact", "int8", "int8", (2 * (16 + 4) + 2) / 32),
        ("auto", "int8", "int8", (2 * (16 + 4) + 2) / 32),
    ],
)
@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_what_the_kv_cache_holds(
    model_path: Path, backend: str, policy: str, kv_dtype: str | None, held: str, bytes_per_value: float
) -> None:
    if held == "as is fastest":
        isa = choose_isa(Environment.read().cpu_isa)
        held = (DType.F16 if backend == "reference" else default_kv_dtype(Policy.AUTO, isa)).value
    if held == "int16":
        bytes_per_value = 2 * (16 + 2) / 16
    with LLM(model_path, backend=backend, policy=policy, kv_dtype=kv_dtype, max_model_len=64, max_num_seqs=2) as llm:
        assert llm.model_info.kv_dtype == held
        num_bytes = 2 * 64 * KV_BYTES_PER_TOKEN / 4 * bytes_per_value
        # Regions of the CPU backend end with whole pages; the reference has nothing between its arrays.
        assert 0.95 * num_bytes < llm.model_info.kv_bytes < num_bytes + (2 << 20 if backend == "cpu" else 1)
        # Scores, logits and generations all run with it.
        (completion,) = llm.generate("hello", SamplingParams(temperature=0.0, max_tokens=12, ignore_eos=True))
        assert list(completion.token_ids) == greedy_by_logits(llm, "hello", 12)
        (score,) = llm.score("hello there")
        logits = np.concatenate(list(llm.logits("hello there"))).astype(np.float64)
        logprobs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        expected = [float(logprobs[i, token]) for i, token in enumerate(score.token_ids[1:])]
        np.testing.assert_allclose(score.logprobs, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_blocks_in_8_bits_are_shared_and_copied(model_path: Path, backend: str) -> None:
    params = SamplingParams(seed=8, max_tokens=20, ignore_eos=True)
    prompt = "thirty-three tokens: two blocks and"
    with LLM(model_path, backend=backend, kv_dtype="int8") as llm:
        alone = [llm.generate(prompt[:n], replace(params, seed=8 + i))[0] for n in (35, 27) for i in range(3)]
    with LLM(model_path, backend=backend, kv_dtype="int8") as llm:
        together = [c for n in (35, 27) for c in llm.generate(prompt[:n], replace(params, n=3))]
    assert [c.token_ids for c in together] == [c.token_ids for c in alone]
    assert len({c.token_ids for c in alone}) > 1


def test_8_bits_move_logits_a_little(model_path: Path) -> None:
    text = "a text whose tokens read each other's keys and values"
    with LLM(model_path, policy="exact") as wide, LLM(model_path, policy="exact", kv_dtype="int8") as narrow:
        first, second = (np.concatenate(list(llm.logits(text))) for llm in (wide, narrow))
    assert 0 < np.abs(second - first).max() < 0.05 * np.abs(first).max()


@pytest.mark.parametrize(
    ("isa", "held"), [("amx", DType.I16), ("avx512vnni", DType.I16), ("avx2", DType.F16), ("generic", DType.F16)]
)
def test_what_is_held_where_nothing_is_asked_for(isa: str, held: DType) -> None:
    assert default_kv_dtype(Policy.AUTO, isa) is held is default_kv_dtype(Policy.FAST, isa)
    assert default_kv_dtype(Policy.EXACT, isa) is DType.F32


def test_codes_of_16_bits_are_closer_than_halves(model_path: Path) -> None:
    text = "a text whose tokens read each other's keys and values"
    logits = {}
    for kv_dtype in ("f32", "f16", "int16"):
        with LLM(model_path, policy="exact", kv_dtype=kv_dtype) as llm:
            logits[kv_dtype] = np.concatenate(list(llm.logits(text)))
    halves, codes = (np.abs(logits[kv_dtype] - logits["f32"]).max() for kv_dtype in ("f16", "int16"))
    assert 0 < codes < halves


def test_an_unknown_kv_dtype(model_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="kv_dtype: expected one of f32, f16, int16, int8, got 'q8'") as raised:
        LLM(model_path, kv_dtype="q8")
    assert raised.value.param == "kv_dtype"
