"""``lepton serve`` as a process of its own: how it starts, and how it ends."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from tests.engine.tiny_gguf import tiny_gguf
from tests.serve.asking import LONG, Asked, Ending, wait_until

from lepton_ai.huge_pages import with_huge_pages


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gguf(tmp_path_factory.mktemp("model") / "tiny.gguf")


def command(model: Path | str, *options: str) -> list[str]:
    fixed = ["--no-auth", "--json", "--threads", "1", "--max-num-seqs", "1", "--max-waiting", "1000"]
    return [sys.executable, "-m", "lepton_ai", "serve", str(model), *fixed, *options]


def worker_of(pid: int) -> int:
    """The number of a server's engine's process, 0 if there is none."""
    children = [path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    return max((int(child) for each in children for child in each), default=0)


class Served:
    """A server that is ready. ``worker`` is the number of its engine's process."""

    def __init__(self, model: Path, home: Path, *options: str) -> None:
        self.process = subprocess.Popen(
            command(model, *options),
            env=os.environ | {"LEPTON_HOME": str(home)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1]
        self.url = json.loads(line)["url"]
        self.port = httpx.URL(self.url).port
        self.worker = worker_of(self.process.pid)

    def end(self) -> tuple[int, str]:
        """Its exit status, and what it said on standard error."""
        error = self.process.communicate(timeout=60)[1]
        return self.process.returncode, error

    def worker_runs(self) -> bool:
        """Whether its engine's process is there."""
        try:
            return "Z" not in Path(f"/proc/{self.worker}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return False


@pytest.fixture
def started(request: pytest.FixtureRequest, model: Path, home: Path) -> Iterator[Served]:
    made = Served(model, home, "--port", "0", *getattr(request, "param", ()))
    yield made
    if made.process.poll() is None:
        made.process.kill()
        made.process.communicate()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as made:
        yield made


def ask_and_begin(served: Served, n: int) -> list[Asked]:
    """Four whole answers and four streams that the server has taken: the last, and so those that came before."""
    asked = [Asked(served.url, n=n) for _ in range(4)] + [Asked(served.url, n=n, stream=True) for _ in range(4)]
    for each in asked[4:]:
        assert each.head().status == 200
    return asked


def test_it_runs_in_huge_pages_where_there_are_any(started: Served) -> None:
    wanted = with_huge_pages({})
    for pid in (started.process.pid, started.worker):
        environ = dict(line.partition("=")[::2] for line in Path(f"/proc/{pid}/environ").read_text().split("\0"))
        assert {name: environ.get(name) for name in wanted} == wanted
        assert wanted or "PYTHONMALLOC" not in environ


def test_what_was_accepted_is_finished(started: Served, pool: ThreadPoolExecutor) -> None:
    asked = ask_and_begin(started, n=8)
    refused: list[httpx.Response] = []

    def knock() -> None:
        """Until the port is closed: who comes is told."""
        while True:
            try:
                refused.append(httpx.get(f"{started.url}/ready", timeout=10))
                refused.append(httpx.post(f"{started.url}/v1/completions", json=LONG | {"max_tokens": 1}, timeout=60))
            except httpx.TransportError:
                return

    started.process.send_signal(signal.SIGTERM)
    wait_until(lambda: httpx.get(f"{started.url}/ready").status_code == 503, "it drains")
    knocking = pool.submit(knock)
    endings = list(pool.map(Asked.ending, asked))
    assert endings == [Ending(200, None)] * 4 + [Ending(200, None, has_text=True)] * 4, "an accepted request was lost"
    status, said = started.end()
    assert status == 0 and "draining: 8 requests" in said and "not finished" not in said and "Traceback" not in said
    knocking.result()
    assert {answer.status_code for answer in refused} == {503}
    assert {answer.json()["status"] for answer in refused[::2]} == {"draining"}
    works = refused[1::2]
    assert {answer.json()["error"]["code"] for answer in works} == {"shutting_down"}
    assert {(answer.headers["connection"], answer.headers["retry-after"]) for answer in works} == {("close", "1")}
    wait_until(lambda: not started.worker_runs(), "the engine's process ends too")


@pytest.mark.parametrize("started", [("--drain-timeout", "1")], indirect=True)
def test_what_cannot_be_finished_is_answered(started: Served, pool: ThreadPoolExecutor) -> None:
    asked = ask_and_begin(started, n=64)
    began = time.monotonic()
    started.process.send_signal(signal.SIGINT)
    endings = list(pool.map(Asked.ending, asked))
    assert {(each.status, each.code) for each in endings[:4]} <= {(200, None), (503, "shutting_down")}
    assert {(each.status, each.code) for each in endings[4:]} <= {(200, None), (200, "shutting_down")}
    assert sum(each.code == "shutting_down" for each in endings) >= 4
    status, said = started.end()
    assert status == 0 and "requests were not finished in time" in said
    assert 0.5 <= time.monotonic() - began < 30


def test_a_second_signal_ends_at_once(started: Served, pool: ThreadPoolExecutor) -> None:
    asked = ask_and_begin(started, n=64)
    started.process.send_signal(signal.SIGTERM)
    wait_until(lambda: httpx.get(f"{started.url}/ready").status_code == 503, "it drains")
    started.process.send_signal(signal.SIGTERM)
    assert started.end()[0] == -signal.SIGTERM
    for each in asked:
        with pytest.raises((http.client.HTTPException, OSError)):
            each.ending()
    wait_until(lambda: not started.worker_runs(), "the engine's process ends too")


@pytest.mark.parametrize("started", [("--drain-delay", "0.5")], indirect=True)
def test_it_goes_on_to_say_that_it_ends(started: Served) -> None:
    began = time.monotonic()
    started.process.send_signal(signal.SIGTERM)
    wait_until(lambda: httpx.get(f"{started.url}/ready").status_code == 503, "it drains")
    assert httpx.get(f"{started.url}/health").status_code == 200
    assert started.end()[0] == 0 and time.monotonic() - began >= 0.5


def test_a_server_that_is_killed_leaves_nothing_and_can_be_started_again(
    started: Served, model: Path, home: Path
) -> None:
    asked = ask_and_begin(started, n=64)
    os.kill(started.process.pid, signal.SIGKILL)
    started.end()
    wait_until(lambda: not started.worker_runs(), "the engine's process ends too", 5)
    for each in asked:
        with pytest.raises((http.client.HTTPException, OSError)):
            each.ending()
    again = Served(model, home, "--port", str(started.port))
    assert again.port == started.port and httpx.get(f"{again.url}/ready").json()["status"] == "ready"
    again.process.send_signal(signal.SIGTERM)
    status, said = again.end()
    assert status == 0 and "draining: 0 requests" in said


def test_what_cannot_be_served_ends_with_a_reason(home: Path, model: Path, tmp_path: Path) -> None:
    def run(*arguments: str) -> tuple[int, dict[str, object]]:
        environment = os.environ | {"LEPTON_HOME": str(home)}
        done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=60, check=False)
        error = json.loads(done.stdout)["error"]
        assert isinstance(error, dict)
        return done.returncode, error

    status, error = run(*command(tmp_path / "none.gguf", "--port", "0"))
    assert (status, error["code"]) == (1, "model_not_found")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, error = run(*command(model, "--port", str(port)))
    assert (status, error["param"]) == (2, "port")
    assert error["message"] == f"port: expected to listen at 127.0.0.1, port {port}: Address already in use"


def test_an_engine_is_started_until_it_comes_up(started: Served, model: Path) -> None:
    os.rename(model, model.with_suffix(".gone"))
    try:
        os.kill(started.worker, signal.SIGKILL)
        wait_until(lambda: httpx.get(f"{started.url}/ready").status_code == 503, "it is noticed")
        answer = httpx.post(f"{started.url}/v1/completions", json=LONG)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "engine_restarting")
        assert int(answer.headers["retry-after"]) >= 1
        tokens = httpx.post(f"{started.url}/tokenize", json={"model": "tiny", "prompt": "hi"}).json()
        assert tokens["count"] == 2, "what needs no engine goes on"
    finally:
        os.rename(model.with_suffix(".gone"), model)
    wait_until(lambda: httpx.get(f"{started.url}/ready").status_code == 200, "it runs again")


def test_an_engine_that_fails_too_often_ends_the_server(model: Path, home: Path) -> None:
    script = """
import asyncio, sys
from lepton_ai.serve.life.options import LifeOptions
from lepton_ai.serve.server import ServeOptions, serve
from lepton_ai.serve.server_limits import ServerLimits
options = ServeOptions(models=sys.argv[1:], port=0, num_threads=1, limits=ServerLimits(life=LifeOptions(max_crashes=1)))
asyncio.run(serve(options, lambda service, port: print(port, flush=True)))
"""
    environment = os.environ | {"LEPTON_HOME": str(home)}
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(model)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    url = f"http://127.0.0.1:{int(process.stdout.readline())}"
    first = worker_of(process.pid)
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: worker_of(process.pid) not in (0, first), "another is started")
    wait_until(lambda: httpx.get(f"{url}/ready").status_code == 200, "it runs")
    os.kill(worker_of(process.pid), signal.SIGKILL)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert b"EngineDied: the engine failed too often in a short time, lastly: the engine's process has ended" in said
