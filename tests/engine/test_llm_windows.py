"""A model with windows: blocks that left one are handed out again, and no bit of any answer tells."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.engine.tiny_gguf import tiny_gguf

from lepton_ai import LLM, SamplingParams
from lepton_ai.engine.kv.group import KVGroup
from lepton_ai.engine.kv.manager import KVManager
from lepton_ai.engine.kv.prefix_cache import block_hash, root_hash
from lepton_ai.engine.outputs import Completion

WINDOW = 24
LONG = SamplingParams(temperature=0.0, max_tokens=60, logprobs=2, ignore_eos=True)
PROMPTS = [bytes(97 + (n * step) % 26 for n in range(100)).decode() for step in (3, 5, 7, 9)]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gguf(tmp_path_factory.mktemp("model") / "tiny.gguf", window=WINDOW)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEPTON_HOME", str(tmp_path / "home"))


def manager_of(llm: LLM) -> KVManager:
    return llm._client._engine.scheduler._kv


def small(path: Path, backend: str = "cpu", policy: str = "auto") -> LLM:
    """Two requests at a time, 16 tokens a step, 15 blocks of each group: 240 tokens."""
    bytes_per_token = 2 * (2 * 2 * 16) * (2 if policy == "auto" else 4)  # of two layers, keys and values of two heads
    memory = 15 * 16 * bytes_per_token
    kv_dtype = "f16" if policy == "auto" else "f32"
    return LLM(
        path,
        backend=backend,
        policy=policy,
        max_num_seqs=2,
        max_tokens_per_step=16,
        kv_memory_bytes=memory,
        kv_dtype=kv_dtype,
    )


def alone(
    path: Path, prompt: str, params: SamplingParams = LONG, backend: str = "cpu", policy: str = "auto"
) -> Completion:
    """The answer of an engine with so many blocks that none is handed out twice, and nothing is cached."""
    with LLM(path, backend=backend, policy=policy, kv_dtype="f16" if policy == "auto" else "f32") as llm:
        assert all(group.num_blocks >= 100 for group in manager_of(llm).groups)
        return llm.generate(prompt, params)[0]


def bits(completion: Completion) -> tuple[object, ...]:
    return completion.token_ids, completion.logprobs


@pytest.mark.parametrize(("backend", "policy"), [("cpu", "auto"), ("cpu", "exact"), ("reference", "exact")])
def test_blocks_that_are_handed_out_again_change_nothing(path: Path, backend: str, policy: str) -> None:
    with small(path, backend, policy) as llm:
        assert manager_of(llm).groups == (KVGroup(15, WINDOW), KVGroup(15))
        got = llm.generate(PROMPTS, LONG)
        assert llm.stats().computed_tokens > 2 * 15 * 16, "blocks were written more than once"
        llm._client.check_integrity()
    assert [bits(c) for c in got] == [bits(alone(path, prompt, LONG, backend, policy)) for prompt in PROMPTS]


def test_a_prefix_beyond_the_window_is_found_and_changes_nothing(path: Path) -> None:
    longer = PROMPTS[0] + "and so on"
    with small(path) as llm:
        (first,) = llm.generate(PROMPTS[0], LONG)
        llm.generate(PROMPTS[1][:60], LONG)
        beginning = block_hash(root_hash(), np.frombuffer(PROMPTS[0][:16].encode(), np.uint8).astype(np.int32))
        assert [pool.lookup(beginning) is None for pool in manager_of(llm).pools] == [True, False]
        (second,) = llm.generate(longer, LONG)
        llm._client.check_integrity()
    assert second.usage.cached_tokens == 96
    assert bits(first) == bits(alone(path, PROMPTS[0])) and bits(second) == bits(alone(path, longer))


def test_choices_share_a_prompt_beyond_the_window(path: Path) -> None:
    params = SamplingParams(seed=4, max_tokens=50, logprobs=1, ignore_eos=True)
    for length in (73, 80):
        prompt = PROMPTS[2][:length]
        with small(path) as llm:
            choices = llm.generate(prompt, replace(params, n=2))
            assert choices[1].usage.cached_tokens == length - 1
            llm._client.check_integrity()
        assert [bits(c) for c in choices] == [bits(alone(path, prompt, replace(params, seed=s))) for s in (4, 5)]
