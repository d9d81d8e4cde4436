from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from tests.engine.fakes import ByteDecoder, FakeCache, FakeExecutable, config, expected_tokens, no_constraints

from lepton_ai.engine.client import EngineClient
from lepton_ai.engine.engine import Engine
from lepton_ai.engine.generation import Generation
from lepton_ai.engine.outputs import Chunk
from lepton_ai.engine.sampling_params import SamplingParams
from lepton_ai.errors import InvalidRequest, LeptonError


class Setup:
    def __init__(self, *, max_tokens: int = 64, num_blocks: int = 64) -> None:
        made = config(max_tokens=max_tokens)
        self.executable = FakeExecutable(made.limits)
        engine = Engine(self.executable, FakeCache(num_blocks), made)
        self.client = EngineClient(engine, lambda params: ByteDecoder(params.stop_strings), no_constraints)

    def chunks(self, generation: Generation) -> Iterator[Chunk]:
        while (chunk := self.client.next_chunk(generation)) is not None:
            yield chunk

    def text(self, prompt: list[int], **params: object) -> str:
        made = SamplingParams(temperature=0.0, **params)  # type: ignore[arg-type]
        return "".join(c.text for c in self.chunks(self.client.submit(prompt, made)))


def greedy_text(prompt: list[int], count: int) -> str:
    return "".join(map(chr, expected_tokens(prompt, count)))


def test_chunks_join_to_the_completion() -> None:
    setup = Setup()
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


def test_a_stop_string_is_cut_off_and_ends_the_request() -> None:
    whole = greedy_text([1, 2, 3], 20)
    stop = whole[7:10]
    setup = Setup()
    params = SamplingParams(temperature=0.0, max_tokens=20, stop=[stop, "\x01never"])
    chunks = list(setup.chunks(setup.client.submit([1, 2, 3], params)))
    assert "".join(c.text for c in chunks) == whole[: whole.find(stop)]
    assert chunks[-1].finish_reason == "stop"
    assert len(setup.executable.steps) == whole.find(stop) + 3
    setup.client.check_integrity()


def test_what_a_stop_string_held_back_comes_in_the_end() -> None:
    whole = greedy_text([1, 2, 3], 8)
    assert Setup().text([1, 2, 3], max_tokens=8, stop=whole[-2:] + "\x01") == whole


def test_the_end_token_is_no_text() -> None:
    setup = Setup()
    setup.executable.script[5] = 0
    chunks = list(setup.chunks(setup.client.submit([1, 2, 3], SamplingParams(temperature=0.0))))
    assert "".join(c.text for c in chunks) == greedy_text([1, 2, 3], 2)
    assert chunks[-1].finish_reason == "stop" and chunks[-1].token_ids == (0,)
    assert Setup().text([1, 2, 3], max_tokens=2, stop_token_ids=expected_tokens([1, 2, 3], 1)) == ""


def test_cancel_ends_within_a_step_even_in_a_long_prompt() -> None:
    setup = Setup(max_tokens=4)
    generation = setup.client.submit([1] * 100, SamplingParams(temperature=0.0))
    other = setup.client.submit([2] * 3, SamplingParams(temperature=0.0, max_tokens=9))
    executed = setup.executable.steps

    class CancelAt3(list[int]):
        def append(self, value: int) -> None:
            super().append(value)
            if len(self) == 3:
                setup.client.cancel(generation)

    setup.executable.steps = CancelAt3(executed)
    chunks = list(setup.chunks(generation))
    assert [(c.text, c.finish_reason) for c in chunks] == [("", "cancelled")]
    assert setup.executable.steps == [4, 4, 4, 1], "the other had its share before"
    assert "".join(c.text for c in setup.chunks(other)) == greedy_text([2] * 3, 9)
    setup.client.check_integrity()


def test_close_generation_frees_at_once() -> None:
    setup = Setup()
    generation = setup.client.submit([1] * 100, SamplingParams())
    setup.client.next_chunk(generation)
    setup.client.close_generation(generation)
    setup.client.close_generation(generation)
    assert generation.is_finished
    setup.client.check_integrity()
    never_started = setup.client.submit([1], SamplingParams())
    setup.client.close_generation(never_started)
    assert [c.finish_reason for c in setup.chunks(never_started)] == ["cancelled"]


@pytest.mark.parametrize("failure", [RuntimeError("device lost"), KeyboardInterrupt()])
def test_a_broken_step_fails_everyone_and_the_engine_goes_on(failure: BaseException) -> None:
    setup = Setup()
    first, second = (setup.client.submit([n, 2, 3], SamplingParams()) for n in (1, 2))
    setup.client.next_chunk(first)
    first.chunks.clear()
    setup.executable.failure = failure
    with pytest.raises(type(failure)):
        setup.client.next_chunk(first)
    second.chunks.clear()
    with pytest.raises(LeptonError, match="the engine stopped"):
        setup.client.next_chunk(second)
    setup.client.check_integrity()
    assert setup.text([1, 2, 3], max_tokens=5) == greedy_text([1, 2, 3], 5)


def test_closed() -> None:
    setup = Setup()
    generation = setup.client.submit([1], SamplingParams(max_tokens=3))
    setup.client.close()
    assert [c.finish_reason for c in setup.chunks(generation)] == ["cancelled"]
    with pytest.raises(InvalidRequest, match="closed"):
        setup.client.submit([1], SamplingParams())
    with pytest.raises(InvalidRequest, match="closed"), setup.client.between_steps():
        pass


def test_threads_get_their_own_answers() -> None:
    setup = Setup(max_tokens=8, num_blocks=24)
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


def test_a_busy_stream_lets_others_in() -> None:
    setup = Setup()
    is_done = threading.Event()

    def stream() -> None:
        while not is_done.is_set():
            setup.text([1, 2, 3], max_tokens=50)

    thread = threading.Thread(target=stream)
    thread.start()
    for _ in range(20):
        with setup.client.between_steps():
            pass
    is_done.set()
    thread.join(timeout=20)
    assert not thread.is_alive()
