"""A model in a process of its own: the real thing, with a tiny model."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest
from tests.engine.published import SENTENCE_FILES, published_bert, write_files
from tests.engine.tiny_gguf import tiny_gguf

from lepton_ai import LLM, AsyncLLM, Constraint, EngineProcess, SamplingParams
from lepton_ai.engine.prompts import Prompt
from lepton_ai.errors import ContextLengthExceeded, EngineDied, InvalidRequest, ModelNotFound, OutOfMemory

GREEDY = SamplingParams(temperature=0.0, max_tokens=12)


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gguf(tmp_path_factory.mktemp("model") / "tiny.gguf")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEPTON_HOME", str(tmp_path / "home"))


def run(model_path: Path, work: Callable[[AsyncLLM], Awaitable[None]]) -> None:
    async def main() -> None:
        async with await AsyncLLM.start(model_path, num_threads=1) as llm:
            await work(llm)

    asyncio.run(main())


def test_it_says_what_a_model_in_this_process_says(model_path: Path) -> None:
    sampled = SamplingParams(temperature=0.8, seed=7, max_tokens=9, n=2, logprobs=3)
    messages = [{"role": "user", "content": "hello"}]
    with LLM(model_path, num_threads=1) as llm:
        want_greedy, want_sampled = llm.generate("hello", GREEDY), llm.generate("another", sampled)
        want_chat, want_info = llm.chat(messages, GREEDY), llm.model_info

    async def work(llm: AsyncLLM) -> None:
        greedy, made = await asyncio.gather(llm.generate("hello", GREEDY), llm.generate("another", sampled))
        assert greedy == want_greedy and made == want_sampled
        assert (await llm.chat(messages, GREEDY)).token_ids == want_chat.token_ids
        assert llm.model_info == want_info
        stream = await llm.stream("hello", GREEDY)
        assert "".join([chunk.text async for chunk in stream]) == want_greedy[0].text
        stats = await llm.stats()
        assert stats.num_running == stats.num_waiting == 0 and stats.finished

    run(model_path, work)


def test_texts_beside_the_event_loop(model_path: Path) -> None:
    messages = [{"role": "user", "content": "é" * 5000}]
    with LLM(model_path, num_threads=1) as llm:
        want = llm.chat_prompt(messages)

    async def work(llm: AsyncLLM) -> None:
        assert (await llm.make_chat_prompt(messages)).ids == want
        texts: list[Prompt] = ["a", "b" * 5000, [1, 2]]
        assert await llm.encode_texts(texts) == [[97], [98] * 5000, [1, 2]]
        assert await llm.decode([98] * 5000) == "b" * 5000 and await llm.decode([]) == ""
        with pytest.raises(InvalidRequest, match="token_id: expected 0 to"):
            await llm.decode([10**6])
        with pytest.raises(ContextLengthExceeded, match="prompt: 5000 tokens exceed the context of 256"):
            await llm.generate("b" * 5000)

    run(model_path, work)


def test_what_is_refused_is_refused_by_name(model_path: Path) -> None:
    async def work(llm: AsyncLLM) -> None:
        with pytest.raises(InvalidRequest, match="prompt: expected at least one token"):
            await llm.generate([])
        with pytest.raises(InvalidRequest, match="n: a stream is of one completion"):
            await llm.stream("hello", SamplingParams(n=2))
        with pytest.raises(InvalidRequest, match="constraint: "):
            await llm.generate("hello", SamplingParams(constraint=Constraint.regex("(")))
        with pytest.raises(InvalidRequest, match="expected an encoder"):
            await llm.embed("hello")

    run(model_path, work)


def test_an_option_that_is_wrong_ends_the_process_too(model_path: Path, tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(InvalidRequest, match="max_model_len: expected 2 to"):
            await AsyncLLM.start(model_path, max_model_len=10**6)
        with pytest.raises(InvalidRequest, match="options: expected arguments of LLM, got 'polcy'"):
            await AsyncLLM.start(model_path, polcy="auto")
        with pytest.raises(ModelNotFound):
            await AsyncLLM.start(tmp_path / "none.gguf")
        with pytest.raises(InvalidRequest, match="num_threads: expected a positive integer"):
            await AsyncLLM.start(model_path, num_threads=0)

    asyncio.run(main())


def test_models_share_a_process(model_path: Path, tmp_path: Path) -> None:
    other_path = tiny_gguf(tmp_path / "other.gguf", seed=5)
    with LLM(model_path) as llm, LLM(other_path) as other:
        want = [llm.generate("hello", GREEDY), other.generate("hello", GREEDY)]

    async def main() -> None:
        with EngineProcess(num_threads=1) as process:
            models = [await AsyncLLM.start(path, process=process) for path in (model_path, other_path)]
            assert await asyncio.gather(*(m.generate("hello", GREEDY) for m in models)) == want
            await models[0].close()
            with pytest.raises(InvalidRequest, match="closed"):
                await models[0].generate("hello", GREEDY)
            assert await models[1].generate("hello", GREEDY) == want[1]
            await models[1].close()

    asyncio.run(main())


def test_models_share_one_budget_of_memory(model_path: Path) -> None:
    async def main() -> None:
        with EngineProcess(num_threads=1, memory_bytes=24 << 20) as process:
            first = await AsyncLLM.start(model_path, process=process, kv_memory_bytes=1 << 20)
            with pytest.raises(OutOfMemory, match="memory_bytes: keys and values take"):
                await AsyncLLM.start(model_path, process=process, kv_memory_bytes=200 << 20)
            assert (await first.generate("hello", GREEDY))[0].usage.completion_tokens > 0
            await first.close()
            second = await AsyncLLM.start(model_path, process=process, kv_memory_bytes=12 << 20)
            await second.close()

    asyncio.run(main())


def test_the_death_of_the_process_is_told(model_path: Path) -> None:
    async def main() -> None:
        with EngineProcess(num_threads=1) as process:
            llm = await AsyncLLM.start(model_path, process=process)
            stream = await llm.stream("hello", SamplingParams(max_tokens=100, ignore_eos=True))
            os.kill(process.pid, signal.SIGKILL)
            with pytest.raises(EngineDied, match="the engine's process has ended: signal SIGKILL"):
                async for _ in stream:
                    pass
            with pytest.raises(EngineDied):
                await llm.generate("hello", GREEDY)
            await llm.close()

    asyncio.run(main())


def test_the_process_ends_when_its_client_does(model_path: Path) -> None:
    process = EngineProcess(num_threads=1)
    llm = asyncio.run(AsyncLLM.start(model_path, process=process))
    for number in (signal.SIGINT, signal.SIGTERM):  # as terminals and service managers do; the client decides
        os.kill(process.pid, number)
    assert asyncio.run(llm.generate("hello", GREEDY))
    process.connection.close()
    assert process._process.wait(60) == 0
    asyncio.run(llm.close())


def test_a_process_that_hangs_is_noticed_and_can_be_ended(model_path: Path) -> None:
    async def main() -> None:
        with EngineProcess(num_threads=1) as process:
            llm = await AsyncLLM.start(model_path, process=process)
            assert process.ping().result(60) and not process.ended.done()
            os.kill(process.pid, signal.SIGSTOP)
            waiting = asyncio.ensure_future(llm.generate("hello", GREEDY))
            pong = process.ping()
            await asyncio.sleep(0.1)
            assert not pong.done() and not waiting.done()
            process.kill()
            with pytest.raises(EngineDied, match="signal SIGKILL"):
                await waiting
            assert "signal SIGKILL" in process.ended.result(60).message
            with pytest.raises(EngineDied):
                process.ping()
            await llm.close()

    asyncio.run(main())


def test_a_process_does_not_outlive_its_client_by_a_long_step() -> None:
    stuck = """
import socket, sys, threading, time
from lepton_ai.engine.remote.worker import end_with_client
threading.Thread(target=end_with_client, args=(int(sys.argv[1]),), daemon=True).start()
print("stuck", flush=True)
time.sleep(1000)
"""
    mine, its = socket.socketpair()
    arguments = [sys.executable, "-c", stuck, str(its.fileno())]
    with its, subprocess.Popen(arguments, pass_fds=[its.fileno()], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"stuck\n"
        assert process.poll() is None
        its.close()
        mine.close()
        assert process.wait(30) == 0


def test_vectors(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "bert", published_bert() | SENTENCE_FILES)
    with LLM(folder, num_threads=1) as llm:
        want = llm.embed(["a man plays", "who"], pooling="mean"), llm.embed([("who plays", "a man")], pooling="cls")

    async def work(llm: AsyncLLM) -> None:
        assert np.array_equal(await llm.embed(["a man plays", "who"], pooling="mean"), want[0])
        assert np.array_equal(await llm.embed([("who plays", "a man")], pooling="cls"), want[1])
        with pytest.raises(InvalidRequest, match="pooling: expected one of"):
            await llm.embed("hello", pooling="sum")
        with pytest.raises(InvalidRequest, match="model: expected a trained classifier"):
            await llm.classify("hello")
        with pytest.raises(InvalidRequest, match="expected a model that generates"):
            await llm.stats()

    run(folder, work)
