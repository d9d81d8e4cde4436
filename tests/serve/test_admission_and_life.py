"""A server in hard times, with a real engine: full queues, late answers, readers who sleep, engines that die."""

from __future__ import annotations

import os
import signal
import socket
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from tests.engine.published import SENTENCE_FILES, published_bert, write_files
from tests.engine.tiny_gguf import tiny_gguf
from tests.serve.asking import LONG, Ending, ask, ask_often, wait_until
from tests.serve.running import Running, Setup, running

from lepton_ai.serve.admission.options import AdmissionOptions
from lepton_ai.serve.http.bounds import Bounds
from lepton_ai.serve.life.options import LifeOptions


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    encoder = write_files(folder / "bert", published_bert() | SENTENCE_FILES)
    return {"tiny": tiny_gguf(folder / "tiny.gguf"), "bert": encoder}


@pytest.fixture(autouse=True, scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEPTON_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture
def server(paths: dict[str, Path]) -> Iterator[Running]:
    """One seat, so that things take long."""
    admission = AdmissionOptions(max_waiting=200)
    setup = Setup(bounds=Bounds(read_s=0.3), admission=admission, life=LifeOptions(engine_timeout_s=1), max_num_seqs=1)
    with running(paths, setup=setup) as made:
        yield made


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as made:
        yield made


def num_taken(server: Running) -> int:
    """Texts that the engine was given and has not finished."""
    return len(server.served["tiny"]._llm._client._connection._generations)


def is_idle(server: Running) -> bool:
    """Whether nothing runs, in this process and in the engine's."""
    return num_taken(server) == server.desk.num_works == server.desk.admission.num_texts == 0


def test_a_full_queue_says_when_to_come_again(paths: dict[str, Path], pool: ThreadPoolExecutor) -> None:
    setup = Setup(admission=AdmissionOptions(max_waiting=9), max_num_seqs=1)
    with running(paths, setup=setup) as server:
        asked = ask_often(pool, 2, server.url, n=5, stream=True)
        wait_until(lambda: server.desk.admission.num_texts == 10, "both are let in")
        os.kill(server.pid, signal.SIGSTOP)
        try:
            refused = httpx.post(f"{server.url}/v1/completions", json=LONG | {"n": 10})
            chat = LONG | {"messages": [{"role": "user", "content": "hello"}], "n": 10}
            del chat["prompt"]
            refused_chat = httpx.post(f"{server.url}/v1/chat/completions", json=chat)
            texts = {"model": "bert", "input": ["who"]}
            other = pool.submit(httpx.post, f"{server.url}/v1/embeddings", json=texts, timeout=60)
            assert httpx.get(f"{server.url}/ready").status_code == 200
        finally:
            os.kill(server.pid, signal.SIGCONT)
        for answer in (refused, refused_chat):
            assert answer.status_code == 429 and 1 <= int(answer.headers["retry-after"]) <= 60
            error = answer.json()["error"]
            assert (error["type"], error["code"]) == ("rate_limit_error", "queue_full")
        assert other.result().status_code == 200, "it has a seat of its own"
        assert {each.result() for each in asked} == {Ending(200, None, has_text=True)}
        wait_until(lambda: is_idle(server), "all room is given back")


def test_a_deadline_ends_the_answer_and_the_work(server: Running, pool: ThreadPoolExecutor) -> None:
    late = {"x-request-timeout": "0.2"}
    assert ask(server.url, late, n=64) == Ending(504, "deadline_exceeded")
    wait_until(lambda: is_idle(server), "the engine is free again")
    assert ask(server.url, late, n=64, stream=True) == Ending(200, "deadline_exceeded", has_text=True)
    wait_until(lambda: is_idle(server), "the engine is free again")
    assert ask(server.url, {"x-request-timeout": "soon"}) == Ending(400, "invalid_request")
    assert ask(server.url, {"x-request-timeout": "60"}, max_tokens=5) == Ending(200, None)


def test_who_waits_past_the_deadline_never_runs(server: Running, pool: ThreadPoolExecutor) -> None:
    (long,) = ask_often(pool, 1, server.url, n=40, stream=True)
    wait_until(lambda: server.desk.admission.num_texts == 40, "it is let in")
    assert ask(server.url, {"x-request-timeout": "0.1"}, stream=True) == Ending(200, "deadline_exceeded")
    assert long.result() == Ending(200, None, has_text=True)


def raw_request(body: bytes) -> bytes:
    head = "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def test_who_does_not_read_is_dropped(server: Running) -> None:
    asked = LONG | {"n": 64, "logprobs": 20, "stream": True}
    body = httpx.Request("POST", server.url, json=asked).content
    address = httpx.URL(server.url)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((address.host, address.port))
        client.sendall(raw_request(body))
        wait_until(lambda: server.desk.num_works == 1, "the request is at work")
        wait_until(lambda: is_idle(server), "the work of who does not read is ended", 60)
        received = b""
        try:
            while piece := client.recv(1 << 16):
                received += piece
        except ConnectionResetError:
            pass
    assert received.startswith(b"HTTP/1.1 200") and b"[DONE]" not in received


def test_an_engine_that_is_killed_is_replaced(
    server: Running, pool: ThreadPoolExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    asked = ask_often(pool, 8, server.url, n=8, stream=True) + ask_often(pool, 4, server.url, n=8)
    wait_until(lambda: sum(work._num_streams == 8 for work in list(server.desk._works)) == 8, "all streams have begun")
    before = server.pid
    os.kill(before, signal.SIGKILL)
    assert wait_until(lambda: not server.desk.life.is_ready, "it is noticed") < 5
    endings = [each.result() for each in asked]
    streamed, whole = endings[:8], endings[8:]
    assert {ending.status for ending in streamed} == {200}
    assert sum(ending.code == "engine_died" for ending in streamed) >= 6
    assert {(ending.status, ending.code) for ending in whole} <= {(200, None), (503, "engine_died")}
    assert {ending.retry_after for ending in whole if ending.status == 503} == {"1"}
    wait_until(lambda: server.desk.life.is_ready, "another engine runs")
    assert server.pid != before
    wait_until(lambda: is_idle(server), "all room is given back")
    wait_until(lambda: len(caplog.records) > 1, "it is said that it runs again")  # soon after it does
    said = [record.getMessage() for record in caplog.records]
    assert said[0] == "the engine's process has ended: signal SIGKILL; another engine is started in 0 s"
    assert len(said) == 2 and said[1].startswith("the engine runs again, after")
    assert ask(server.url, max_tokens=5) == Ending(200, None)


def test_there_is_no_work_without_an_engine(server: Running) -> None:
    server.desk.life.lose_engine(3)
    answer = httpx.get(f"{server.url}/ready")
    assert answer.status_code == 503
    assert answer.json() == {"status": "engine_restarting", "models": ["tiny", "bert"]}
    assert ask(server.url) == Ending(503, "engine_restarting", retry_after="3")
    assert httpx.get(f"{server.url}/v1/models").status_code == 200
    server.desk.life.begin()
    assert httpx.get(f"{server.url}/ready").json() == {"status": "ready", "models": ["tiny", "bert"]}


def test_an_engine_that_hangs_is_replaced(server: Running, pool: ThreadPoolExecutor) -> None:
    asked = ask_often(pool, 2, server.url, n=8, stream=True)
    wait_until(lambda: num_taken(server) > 8, "the engine has taken both")
    before = server.pid
    os.kill(before, signal.SIGSTOP)
    assert {each.result().code for each in asked} <= {None, "engine_died"}
    wait_until(lambda: server.pid != before and server.desk.life.is_ready, "another engine runs")
    assert ask(server.url, max_tokens=5) == Ending(200, None)


def test_who_leaves_before_the_first_byte_leaves_nothing(server: Running) -> None:
    body = httpx.Request("POST", server.url, json=LONG | {"n": 64}).content
    address = httpx.URL(server.url)
    with socket.socket() as client:
        client.connect((address.host, address.port))
        client.sendall(raw_request(body))
        wait_until(lambda: server.desk.num_works == 1, "the request is at work")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wait_until(lambda: is_idle(server), "its work is ended")
