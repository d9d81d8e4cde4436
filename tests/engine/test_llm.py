"""The whole engine on a tiny model: file to text, with the reference backend."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.engine.tiny_gguf import CONTEXT_LENGTH, VOCAB_SIZE, tiny_gguf

from lepton_ai import LLM, SamplingParams
from lepton_ai.errors import ContextLengthExceeded, InvalidRequest, ModelNotFound, OutOfMemory, TemplateError

GREEDY = SamplingParams(temperature=0.0, max_tokens=12)
KV_BYTES_PER_TOKEN = 2 * (2 * 2 * 16) * 4
"""Layers, keys and values of two heads of 16, f32."""
PROMPTS = ["hello", "a longer prompt that takes more than one block", "x"]


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gguf(tmp_path_factory.mktemp("model") / "tiny.gguf")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEPTON_HOME", str(tmp_path / "home"))


@pytest.fixture
def llm(model_path: Path) -> Iterator[LLM]:
    with LLM(model_path, backend="reference") as made:
        yield made
        made._client.check_integrity()


def greedy_by_logits(llm: LLM, prompt: str, count: int) -> list[int]:
    """The greedy continuation by the plainest means: all logits of the whole text, again for each token."""
    ids = llm.tokenizer.encode(prompt)
    for _ in range(count):
        last = np.concatenate(list(llm.logits(ids)))[-1]
        ids.append(int(last.argmax()))
    return ids[-count:]


def test_generate_is_the_argmax_of_logits(llm: LLM) -> None:
    completions = llm.generate(PROMPTS, GREEDY)
    for prompt, completion in zip(PROMPTS, completions, strict=True):
        assert list(completion.token_ids) == greedy_by_logits(llm, prompt, len(completion.token_ids))
        assert completion.finish_reason in ("length", "stop")
        assert completion.usage.prompt_tokens == len(prompt)
        assert completion.usage.completion_tokens == len(completion.token_ids)
        assert completion.logprobs is None


@pytest.mark.parametrize("max_tokens_per_step", [1, 7, 64])
def test_chunks_of_a_prompt_change_nothing(llm: LLM, model_path: Path, max_tokens_per_step: int) -> None:
    expected = llm.generate(PROMPTS, GREEDY)
    with LLM(model_path, backend="reference", max_tokens_per_step=max_tokens_per_step) as other:
        got = other.generate(PROMPTS, GREEDY)
    assert [c.token_ids for c in got] == [c.token_ids for c in expected]


def test_a_seed_gives_the_same_text_alone_and_in_company(llm: LLM) -> None:
    params = SamplingParams(seed=3, max_tokens=20, ignore_eos=True)
    (alone,) = llm.generate(PROMPTS[1], params)
    together = llm.generate(PROMPTS, params)
    assert together[1].token_ids == alone.token_ids and together[1].text == alone.text
    assert together[1].usage.cached_tokens == 32
    other = SamplingParams(seed=4, max_tokens=20, ignore_eos=True)
    assert llm.generate(PROMPTS[1], other)[0].token_ids != alone.token_ids


def test_stream_joins_to_the_completion(llm: LLM) -> None:
    params = SamplingParams(seed=5, max_tokens=30, ignore_eos=True)
    (whole,) = llm.generate(PROMPTS[0], params)
    chunks = list(llm.stream(PROMPTS[0], params))
    assert "".join(c.text for c in chunks) == whole.text
    assert whole.text == llm.tokenizer.decode(list(whole.token_ids))


def test_streams_of_one_event_loop_run_together(llm: LLM) -> None:
    params = SamplingParams(temperature=0.0, max_tokens=12, ignore_eos=True)

    async def text_of(prompt: str) -> str:
        return "".join([chunk.text async for chunk in llm.stream(prompt, params)])

    async def run() -> list[str]:
        return await asyncio.gather(*(text_of(prompt) for prompt in PROMPTS[:3]))

    assert asyncio.run(run()) == [completion.text for completion in llm.generate(PROMPTS[:3], params)]


def test_a_cancelled_task_cancels_its_stream(llm: LLM) -> None:
    async def run() -> None:
        async def consume() -> None:
            async for _ in llm.stream(PROMPTS[1], SamplingParams(max_tokens=100, ignore_eos=True)):
                started.set()

        started = asyncio.Event()
        task = asyncio.create_task(consume())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    llm.generate("a", GREEDY)
    llm._client.check_integrity()
    assert not llm._client._active


def test_leaving_a_stream_frees_everything(llm: LLM) -> None:
    with llm.stream(PROMPTS[1], SamplingParams(seed=1)) as stream:
        next(stream)
    llm._client.check_integrity()
    assert not llm._client._active
    for _ in llm.stream(PROMPTS[1], SamplingParams(seed=1)):
        break
    llm.generate("a", GREEDY)
    assert not llm._client._active


def test_a_cancelled_stream_says_so(llm: LLM) -> None:
    stream = llm.stream(PROMPTS[1], SamplingParams(seed=1, ignore_eos=True))
    next(stream)
    stream.cancel()
    assert list(stream)[-1].finish_reason == "cancelled"


def test_logprobs_agree_with_logits(llm: LLM) -> None:
    params = SamplingParams(temperature=0.0, max_tokens=3, logprobs=2, ignore_eos=True)
    (completion,) = llm.generate("hello", params)
    assert completion.logprobs is not None and len(completion.logprobs) == 3
    logits = np.concatenate(list(llm.logits("hello")))[-1].astype(np.float64)
    logprobs = logits - np.log(np.exp(logits).sum())
    first = completion.logprobs[0]
    assert first.token_id == completion.token_ids[0] == first.top[0][0]
    assert first.logprob == pytest.approx(logprobs.max(), abs=1e-5)
    assert [i for i, _ in first.top] == np.argsort(-logprobs, kind="stable")[:2].tolist()


def test_score_agrees_with_logits(llm: LLM) -> None:
    scores = llm.score(PROMPTS)
    for prompt, score in zip(PROMPTS, scores, strict=True):
        logits = np.concatenate(list(llm.logits(prompt))).astype(np.float64)
        logprobs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        expected = [logprobs[n, token] for n, token in enumerate(score.token_ids[1:])]
        assert score.logprobs == pytest.approx(expected, abs=1e-5)
        assert score.total_logprob == pytest.approx(math.fsum(expected), abs=1e-4)
    assert scores[2].logprobs == ()


def test_score_of_long_texts_in_many_steps(llm: LLM, model_path: Path) -> None:
    texts = ["ab" * 40, "c", "the rest of it"]
    with LLM(model_path, backend="reference", max_tokens_per_step=16) as other:
        got = other.score(texts)
    assert got == llm.score(texts)


def test_logits_come_in_pieces_between_other_requests(llm: LLM) -> None:
    pieces = llm.logits([1] * 150)
    first = next(pieces)
    assert first.shape == (64, VOCAB_SIZE)
    llm.generate("x", GREEDY)
    assert [len(p) for p in pieces] == [64, 22]


def test_chat_uses_the_template_and_keeps_the_kv_of_earlier_turns(llm: LLM) -> None:
    messages = [{"role": "user", "content": "hi, how are you today?"}]
    params = SamplingParams(temperature=0.0, max_tokens=8)
    first = llm.chat(messages, params)
    assert first.usage.prompt_tokens == len("user\nhi, how are you today?\nassistant\n") + 3
    messages += [{"role": "assistant", "content": first.text}, {"role": "user", "content": "and now?"}]
    second = llm.chat(messages, params)
    assert second.usage.cached_tokens >= first.usage.prompt_tokens // 16 * 16
    assert "".join(c.text for c in llm.chat_stream(messages, params)) == second.text


def test_a_model_without_a_template_only_completes(tmp_path: Path) -> None:
    path = tiny_gguf(tmp_path / "base.gguf", has_template=False)
    with LLM(path, backend="reference") as llm:
        assert llm.generate("x", GREEDY)[0].token_ids
        with pytest.raises(TemplateError, match="chat template"):
            llm.chat([{"role": "user", "content": "x"}], GREEDY)


def test_text_of_a_user_is_no_control_token(llm: LLM) -> None:
    plain, tricky = "x" * 12, "<|im_end|>ab"
    lengths = [llm.chat([{"role": "user", "content": text}], GREEDY).usage.prompt_tokens for text in (plain, tricky)]
    assert lengths[0] == lengths[1]


def test_bad_requests(llm: LLM) -> None:
    for bad, match in [
        ([""], "at least one token"),
        ([[]], "at least one token"),
        ([[VOCAB_SIZE]], f"from 0 to {VOCAB_SIZE - 1}, got {VOCAB_SIZE}"),
        ([3], "list of prompts"),
        ([None], "text or token ids"),
        (7, "list of prompts"),
    ]:
        with pytest.raises(InvalidRequest, match=match):
            llm.generate(bad, GREEDY)  # type: ignore[arg-type]
    with pytest.raises(ContextLengthExceeded):
        llm.generate(["ok", "y" * CONTEXT_LENGTH], GREEDY)
    with pytest.raises(ContextLengthExceeded):
        llm.score("y" * (CONTEXT_LENGTH + 1))
    with pytest.raises(InvalidRequest, match="params: expected one for each of 2"):
        llm.generate(["a", "b"], [GREEDY])
    llm._client.check_integrity()
    assert not llm._client._submitted, "nothing of a refused batch is left"


def test_bad_options(model_path: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="policy"):
        LLM(model_path, policy="fastest")
    with pytest.raises(InvalidRequest, match="backend: expected cpu or reference"):
        LLM(model_path, backend="tpu")
    with pytest.raises(InvalidRequest, match="max_num_seqs: expected a positive integer, got 0"):
        LLM(model_path, max_num_seqs=0)
    with pytest.raises(InvalidRequest, match="num_threads: expected a positive integer, got 0"):
        LLM(model_path, num_threads=0)
    with pytest.raises(InvalidRequest, match="max_model_len"):
        LLM(model_path, backend="reference", max_model_len=CONTEXT_LENGTH + 1)
    with pytest.raises(OutOfMemory, match="kv_memory_bytes"):
        LLM(model_path, backend="reference", kv_memory_bytes=1)
    with pytest.raises(ModelNotFound):
        LLM(tmp_path / "absent.gguf", backend="reference")


def test_memory_bounds_the_context(model_path: Path) -> None:
    with LLM(model_path, backend="reference", policy="exact", kv_memory_bytes=4 * 16 * KV_BYTES_PER_TOKEN) as llm:
        assert llm.model_info.max_model_len == 4 * 16 + 1
        assert llm.model_info.policy == "exact" and llm.model_info.vocab_size == VOCAB_SIZE


def test_choices_have_the_seeds_one_after_the_other(llm: LLM) -> None:
    params = SamplingParams(seed=8, max_tokens=10, ignore_eos=True)
    alone = [llm.generate(p, replace(params, seed=8 + i))[0] for p in PROMPTS for i in range(3)]
    together = llm.generate(PROMPTS, replace(params, n=3))
    assert [c.text for c in together] == [c.text for c in alone]
    assert together[1].usage.cached_tokens == together[1].usage.prompt_tokens - 1


def test_choices_on_the_cpu_have_the_bits_of_each_alone(model_path: Path) -> None:
    params = SamplingParams(seed=8, max_tokens=20, ignore_eos=True, logprobs=2)
    with LLM(model_path, backend="cpu") as llm:
        alone = [llm.generate(PROMPTS[1], replace(params, seed=8 + i))[0].logprobs for i in range(4)]
        assert [c.logprobs for c in llm.generate(PROMPTS[1], replace(params, n=4))] == alone


def test_the_best_are_given(llm: LLM) -> None:
    params = SamplingParams(seed=3, max_tokens=6, ignore_eos=True, logprobs=0, n=5)
    every = llm.generate("hello", params)
    means = [sum(entry.logprob for entry in c.logprobs or ()) / 6 for c in every]
    best = sorted(range(5), key=lambda i: -means[i])[:2]
    given = llm.generate("hello", replace(params, n=2, best_of=5, logprobs=None))
    assert [c.token_ids for c in given] == [every[i].token_ids for i in best]
    assert all(c.logprobs is None for c in given)


def test_a_stream_is_of_one_completion(llm: LLM) -> None:
    with pytest.raises(InvalidRequest, match="n: a stream is of one completion, got 2"):
        llm.stream("hello", SamplingParams(n=2))
    with pytest.raises(InvalidRequest, match="best_of: a stream is of one completion, got 3"):
        llm.chat([{"role": "user", "content": "x"}], SamplingParams(best_of=3))


def test_stats_count_what_was_done(llm: LLM) -> None:
    (completion,) = llm.generate("hello", GREEDY)
    stats = llm.stats()
    assert stats.prompt_tokens == completion.usage.prompt_tokens
    assert stats.output_tokens == len(completion.token_ids) and stats.kv_blocks_used == 0
    assert stats.finished == {completion.finish_reason: 1}


def test_biases_forbid_and_force(llm: LLM) -> None:
    (plain,) = llm.generate("hello", GREEDY)
    first = plain.token_ids[0]
    (other,) = llm.generate("hello", SamplingParams(temperature=0.0, max_tokens=12, logit_bias={first: -100}))
    assert first not in other.token_ids and other.token_ids[0] != first
    forced = SamplingParams(temperature=0.0, max_tokens=5, ignore_eos=True, logit_bias={7: 100})
    assert list(llm.generate("hello", forced)[0].token_ids) == [7] * 5


def test_nothing_ends_a_text_before_min_tokens(llm: LLM) -> None:
    (plain,) = llm.generate("hello", GREEDY)
    second = plain.token_ids[1]
    stopped = SamplingParams(temperature=0.0, max_tokens=12, stop_token_ids=[second])
    assert llm.generate("hello", stopped)[0].finish_reason == "stop"
    later = SamplingParams(temperature=0.0, max_tokens=12, stop_token_ids=[second], min_tokens=6)
    (completion,) = llm.generate("hello", later)
    assert len(completion.token_ids) >= 6 and second not in completion.token_ids[:6]


def test_stop_strings_count_after_min_tokens(llm: LLM) -> None:
    params = SamplingParams(temperature=0.0, max_tokens=12, ignore_eos=True, logit_bias={97: 100})
    (plain,) = llm.generate("hello", params)
    letter = plain.text[0]
    assert plain.text == letter * 12
    (early,) = llm.generate("hello", replace(params, stop=letter))
    (late,) = llm.generate("hello", replace(params, stop=letter, min_tokens=5))
    assert (early.text, late.text) == ("", letter * 5)
    assert (early.finish_reason, late.finish_reason) == ("stop", "stop")


@pytest.mark.parametrize("name", ["logit_bias", "stop_token_ids"])
def test_ids_past_the_vocabulary_are_refused(llm: LLM, name: str) -> None:
    params = SamplingParams(**{name: {VOCAB_SIZE: 1.0}})  # type: ignore[arg-type]
    with pytest.raises(
        InvalidRequest, match=f"{name}: expected token ids from 0 to {VOCAB_SIZE - 1}, got {VOCAB_SIZE}"
    ):
        llm.generate("hello", params)


def test_closed_is_closed(model_path: Path) -> None:
    llm = LLM(model_path, backend="reference")
    llm.close()
    llm.close()
    with pytest.raises(InvalidRequest, match="closed"):
        llm.generate("x", GREEDY)
    with pytest.raises(InvalidRequest, match="closed"):
        llm.score("xy")


def test_several_threads(llm: LLM) -> None:
    params = SamplingParams(seed=8, max_tokens=10, ignore_eos=True)
    expected = [llm.generate(p, params)[0].text for p in PROMPTS]
    results: dict[int, str] = {}

    def work(n: int) -> None:
        if n == 0:
            llm.score(PROMPTS)
        results[n] = llm.generate(PROMPTS[n], params)[0].text

    threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert [results[n] for n in range(3)] == expected
