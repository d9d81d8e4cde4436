"""What callers of an engine rely on, wherever it runs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
from tests.engine.clients import MakeSetup, Setup, local_setup, remote_setup
from tests.engine.fakes import FakeHandle, expected_tokens, greedy_text

from lepton_ai.backends.base import KVCache, StepInputs
from lepton_ai.engine.generation import Generation
from lepton_ai.engine.outputs import Chunk
from lepton_ai.engine.request_options import RequestOptions
from lepton_ai.engine.sampling_params import SamplingParams
from lepton_ai.engine.stream import Stream
from lepton_ai.errors import ContextLengthExceeded, InvalidRequest, LeptonError, Overloaded


@pytest.fixture(params=[local_setup, remote_setup], ids=["local", "remote"])
def make(request: pytest.FixtureRequest) -> Iterator[MakeSetup]:
    """Makes setups of one kind, and closes them."""
    made: list[Setup] = []

    def make_one(*, max_tokens: int = 64, num_blocks: int = 64) -> Setup:
        made.append(request.param(max_tokens=max_tokens, num_blocks=num_blocks))
        return made[-1]

    yield make_one
    for setup in made:
        setup.close()


@pytest.fixture
def setup(make: MakeSetup) -> Setup:
    return make()


def test_chunks_join_to_the_completion(setup: Setup) -> None:
    params = SamplingParams(temperature=0.0, max_tokens=10, logprobs=2)
    chunks = list(setup.chunks(setup.client.submit([1, 2, 3], params)))
    assert "".join(c.text for c in chunks) == greedy_text([1, 2, 3], 10)
    tokens = [i for c in chunks for i in c.token_ids]
    assert tokens == expected_tokens([1, 2, 3], 10)
    logprobs = [p for c in chunks for p in c.logprobs or ()]
    assert [p.token_id for p in logprobs] == tokens
    assert [len(p.top) for p in logprobs] == [2] * 10 and logprobs[0].top[0] == (tokens[0], -1.0)
    assert [c.finish_reason for c in chunks] == [None] * 9 + ["length"]
    usage = chunks[-1].usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens) == (3, 10, 0)
    setup.client.check_integrity()


def test_cached_tokens_are_told(setup: Setup) -> None:
    for cached in (0, 48):
        chunks = list(setup.chunks(setup.client.submit([1] * 50, SamplingParams(temperature=0.0, max_tokens=3))))
        assert chunks[-1].usage is not None and chunks[-1].usage.cached_tokens == cached


def test_a_generation_can_be_made_to_fail(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    run, may_run = setup.executable.run, threading.Event()

    def run_later(inputs: StepInputs, cache: KVCache) -> FakeHandle:
        assert may_run.wait(10)
        return run(inputs, cache)

    monkeypatch.setattr(setup.executable, "run", run_later)
    params = SamplingParams(temperature=0.0, max_tokens=20)
    failing = setup.client.submit([1, 2, 3], params)
    setup.client.fail(failing, Overloaded("no more"))
    may_run.set()
    other = setup.client.submit([4, 5], params)
    with pytest.raises(Overloaded, match="no more"):
        list(setup.chunks(failing))
    assert "".join(c.text for c in setup.chunks(other)) == greedy_text([4, 5], 20)
    setup.client.fail(other, Overloaded("too late"))
    assert setup.client.next_chunk(other) is None
    setup.client.check_integrity()


def test_who_leaves_a_stream_is_told_of_once(setup: Setup) -> None:
    left: list[str] = []

    def stream(name: str) -> Stream:
        made = Stream(setup.client, setup.client.submit([1, 2, 3], SamplingParams(max_tokens=3)))
        made.on_leave(lambda: left.append(name))
        return made

    read, closed, _dropped = stream("read"), stream("closed"), stream("dropped")
    assert len(list(read)) == 3 and left == []
    read.cancel()
    read.close()
    closed.close()
    assert left == ["read", "closed"]
    del _dropped
    assert left == ["read", "closed", "dropped"]


def test_a_stop_string_is_cut_off_and_ends_the_request(setup: Setup) -> None:
    whole = greedy_text([1, 2, 3], 20)
    stop = whole[7:10]
    params = SamplingParams(temperature=0.0, max_tokens=20, stop=[stop, "\x01never"])
    chunks = list(setup.chunks(setup.client.submit([1, 2, 3], params)))
    assert "".join(c.text for c in chunks) == whole[: whole.find(stop)]
    assert chunks[-1].finish_reason == "stop"
    assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens == whole.find(stop) + 3
    setup.client.check_integrity()


def test_what_a_stop_string_held_back_comes_in_the_end(setup: Setup) -> None:
    whole = greedy_text([1, 2, 3], 8)
    assert setup.text([1, 2, 3], max_tokens=8, stop=whole[-2:] + "\x01") == whole


def test_the_end_token_is_no_text(setup: Setup) -> None:
    setup.executable.script[5] = 0
    chunks = list(setup.chunks(setup.client.submit([1, 2, 3], SamplingParams(temperature=0.0))))
    assert "".join(c.text for c in chunks) == greedy_text([1, 2, 3], 2)
    assert chunks[-1].finish_reason == "stop" and chunks[-1].token_ids == (0,)
    assert setup.text([1, 2, 3], max_tokens=2, stop_token_ids=expected_tokens([1, 2, 3], 1)) == ""


def test_several_completions_of_a_prompt(setup: Setup) -> None:
    params = SamplingParams(temperature=1.0, max_tokens=6, n=3, seed=40)
    generations = setup.client.submit_all([[1] * 20, [2] * 5], [params, SamplingParams(temperature=0.0, max_tokens=4)])
    tokens = [[i for c in setup.chunks(generation) for i in c.token_ids] for generation in generations]
    assert tokens[:3] == [expected_tokens([1] * 20, 6, seed) for seed in (40, 41, 42)]
    assert tokens[3:] == [expected_tokens([2] * 5, 4)]
    setup.client.check_integrity()


@pytest.mark.parametrize(
    ("prompt", "params", "error"),
    [
        ([], SamplingParams(), InvalidRequest),
        ([1000], SamplingParams(), InvalidRequest),
        ([1], SamplingParams(n=2), InvalidRequest),
        ([1], SamplingParams(max_tokens=1000), ContextLengthExceeded),
        ([1], SamplingParams(logit_bias={500: 1.0}), InvalidRequest),
    ],
)
def test_what_is_refused_leaves_nothing_behind(
    setup: Setup, prompt: list[int], params: SamplingParams, error: type[LeptonError]
) -> None:
    with pytest.raises(LeptonError) as raised:
        setup.client.submit(prompt, params)
    assert type(raised.value) is error and raised.value.param is not None
    setup.client.check_integrity()
    assert setup.text([1, 2, 3], max_tokens=5) == greedy_text([1, 2, 3], 5)


def test_options_and_statistics(setup: Setup) -> None:
    options = RequestOptions(priority=3, tenant="a tenant")
    (generation,) = setup.client.submit_all([[1] * 17], [SamplingParams(temperature=0.0, max_tokens=3)], options)
    assert len(list(setup.chunks(generation))) == 3
    stats = setup.client.stats()
    assert (stats.num_running, stats.num_waiting, stats.num_paused) == (0, 0, 0)
    assert (stats.prompt_tokens, stats.output_tokens, stats.finished) == (17, 3, {"length": 1})
    setup.client.submit_all([[1] * 17], [SamplingParams(max_tokens=1)], RequestOptions(tenant="another"))


def test_cancel(setup: Setup) -> None:
    generation = setup.client.submit([1] * 100, SamplingParams(temperature=0.0))
    other = setup.client.submit([2] * 3, SamplingParams(temperature=0.0, max_tokens=9))
    setup.client.cancel(generation)
    setup.client.cancel(generation)
    assert list(setup.chunks(generation))[-1].finish_reason in ("cancelled", "length")
    assert "".join(c.text for c in setup.chunks(other)) == greedy_text([2] * 3, 9)
    setup.client.cancel(other)
    setup.client.check_integrity()


def test_close_generation_frees_at_once(setup: Setup) -> None:
    generation = setup.client.submit([1] * 100, SamplingParams())
    setup.client.next_chunk(generation)
    setup.client.close_generation(generation)
    setup.client.close_generation(generation)
    assert generation.is_finished
    setup.client.check_integrity()
    assert setup.client.stats().kv_blocks_used == 0


def test_a_broken_step_fails_everyone_and_the_engine_goes_on(setup: Setup) -> None:
    setup.executable.failure = RuntimeError("device lost")
    generation = setup.client.submit([1, 2, 3], SamplingParams())
    with pytest.raises((RuntimeError, LeptonError), match="device lost"):
        setup.client.next_chunk(generation)
    setup.client.check_integrity()
    assert setup.text([1, 2, 3], max_tokens=5) == greedy_text([1, 2, 3], 5)


def test_closed(setup: Setup) -> None:
    generation = setup.client.submit([1], SamplingParams(max_tokens=200))
    setup.client.close()
    assert list(setup.chunks(generation))[-1].finish_reason in ("cancelled", "length")
    with pytest.raises(InvalidRequest, match="closed"):
        setup.client.submit([1], SamplingParams())


def test_threads_get_their_own_answers(make: MakeSetup) -> None:
    setup = make(max_tokens=8, num_blocks=24)
    results: dict[int, str] = {}

    def work(n: int) -> None:
        results[n] = setup.text([n + 1] * (10 * n + 1), max_tokens=30)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert results == {n: greedy_text([n + 1] * (10 * n + 1), 30) for n in range(6)}
    setup.client.check_integrity()


def test_coroutines_get_their_own_answers(make: MakeSetup) -> None:
    setup = make(max_tokens=8, num_blocks=24)

    async def text(n: int) -> str:
        params = SamplingParams(temperature=0.0, max_tokens=30)
        generation = setup.client.submit([n + 1] * (10 * n + 1), params)
        chunks: list[Chunk] = []
        while (chunk := await setup.client.next_chunk_async(generation)) is not None:
            chunks.append(chunk)
        return "".join(c.text for c in chunks)

    async def work() -> list[str]:
        return await asyncio.gather(*map(text, range(6)))

    assert asyncio.run(work()) == [greedy_text([n + 1] * (10 * n + 1), 30) for n in range(6)]
    setup.client.check_integrity()


def test_a_coroutine_that_is_cancelled_ends_its_generation(setup: Setup) -> None:
    async def read_all(generation: Generation) -> None:
        while await setup.client.next_chunk_async(generation) is not None:
            await asyncio.sleep(0.005)

    async def work() -> Generation:
        generation = setup.client.submit([1] * 3, SamplingParams(max_tokens=250))
        task = asyncio.create_task(read_all(generation))
        await asyncio.sleep(0.05)
        generation.chunks.clear()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return generation

    generation = asyncio.run(work())
    setup.client.close_generation(generation)
    assert generation.is_finished
    setup.client.check_integrity()
