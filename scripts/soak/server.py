"""`lepton serve` as a process of its own, and what can be seen of it from outside."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from prometheus_client.parser import text_string_to_metric_families
from scripts.soak.client import Client, Lost

_HOST = "127.0.0.1"
_END_S = 90.0
_IDLE = (
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    "lepton:num_requests_paused",
    "vllm:kv_cache_usage_perc",
    "lepton:http_requests_in_flight",
)


def get(path: str) -> bytes:
    """A request on the wire."""
    return f"GET {path} HTTP/1.1\r\nhost: {_HOST}\r\n\r\n".encode()


GET_READY = get("/ready")


class Server:
    """A server that is ready when this is made, on a free port or on ``port``; it is killed at the end of ``with``.

    ``started_s`` is how long it took until it was ready.
    """

    def __init__(self, arguments: Sequence[str], *, port: int = 0) -> None:
        self._arguments = tuple(arguments)
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115  # it is closed with this
        self.stray: list[str] = []
        """What clients were sent and had not asked for."""
        began = time.monotonic()
        command = [sys.executable, "-m", "lepton_ai", "serve", *arguments, "--no-auth", "--json", "--port", str(port)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self._log, text=True)
        if port:
            self.port = port
            self._wait_ready()
        else:
            assert self._process.stdout is not None
            told = json.loads(self._process.stdout.readline() or "{}")
            if "url" not in told:
                raise SystemExit(f"lepton serve {' '.join(arguments)}: {told}\n{self.said}")
            self.port = int(told["url"].rpartition(":")[2])
        self.started_s = time.monotonic() - began
        self.pid = self._process.pid
        self.engine_pid = self.find_engine()

    def again(self) -> Server:
        """The same on the same port."""
        return Server(self._arguments, port=self.port)

    def client(self) -> Client:
        """One that is not connected yet."""
        return Client(_HOST, self.port, self.stray)

    @property
    def said(self) -> str:
        """What it wrote on standard error."""
        self._log.seek(0)
        return self._log.read()

    @property
    def status(self) -> int | None:
        """Its exit status, None while it runs."""
        return self._process.poll()

    def find_engine(self) -> int:
        """The number of its engine's process, 0 if there is none."""
        children = [path.read_text().split() for path in Path(f"/proc/{self.pid}/task").glob("*/children")]
        return max((int(child) for each in children for child in each), default=0)

    def pids(self) -> dict[str, int]:
        """Of both processes."""
        return {"server": self.pid, "engine": self.engine_pid}

    def num_fds(self) -> dict[str, int]:
        """Open files and sockets of both processes."""
        return {name: len(list(Path(f"/proc/{pid}/fd").iterdir())) for name, pid in self.pids().items()}

    def send_signal(self, number: signal.Signals) -> None:
        """To the server's process alone."""
        self._process.send_signal(number)

    async def wait_end(self) -> int:
        """Its exit status."""
        return await asyncio.to_thread(self._process.wait, _END_S)

    async def metrics(self) -> dict[str, float]:
        """Every sample of a metric that has no histogram, summed over its labels."""
        client = self.client()
        try:
            answer = await client.ask(get("/metrics"))
        finally:
            client.close()
        assert answer is not None
        found: dict[str, float] = {}
        for family in text_string_to_metric_families(answer.body.decode("utf-8")):
            for sample in family.samples:
                found[sample.name] = found.get(sample.name, 0.0) + sample.value
        return found

    async def breaches_of_idleness(self, timeout_s: float = 20.0) -> list[str]:
        """What is still held when nobody asks for anything. Who left may take a moment; an encoder has no cache."""
        end = time.monotonic() + timeout_s
        while True:
            metrics = await self.metrics()
            held = [f"{name} is {metrics[name]:g} with no request" for name in _IDLE if metrics.get(name)]
            if not held or time.monotonic() > end:
                return held
            await asyncio.sleep(0.1)

    def breaches_of_log(self) -> list[str]:
        """Exceptions that nobody foresaw."""
        return ["the log has a traceback"] if "Traceback" in self.said else []

    def _wait_ready(self) -> None:
        while self._process.poll() is None and time.monotonic():
            connection = http.client.HTTPConnection(_HOST, self.port, timeout=10)
            try:
                connection.request("GET", "/ready")
                if connection.getresponse().status == 200:
                    return
            except OSError:
                pass
            finally:
                connection.close()
            time.sleep(0.005)
        raise SystemExit(f"lepton serve ended with status {self._process.poll()}: {self.said}")

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            sys.stderr.write(self.said)
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._log.close()


def runs(pid: int) -> bool:
    """Whether a process is there, and not merely not yet buried."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def seconds_until(condition: Callable[[], bool], timeout_s: float) -> float:
    """How long it takes; ``timeout_s`` at most."""
    began = time.monotonic()
    while not condition() and time.monotonic() - began < timeout_s:
        await asyncio.sleep(0.005)
    return time.monotonic() - began


class ReadyWatch:
    """Asks again and again whether a server is ready, in ``async with``. ``changes``: when the answer was another."""

    def __init__(self, server: Server) -> None:
        self._client = server.client()
        self.changes: list[tuple[float, int]] = []

    def first(self, status: int, after: float) -> float | None:
        """Seconds from ``after`` to the first answer of this status, None if there is none."""
        return next((when - after for when, what in self.changes if what == status and when >= after), None)

    async def _watch(self) -> None:
        while True:
            try:
                answer = await self._client.ask(GET_READY)
                status = 0 if answer is None else answer.status
            except Lost:
                status = 0
            if not self.changes or self.changes[-1][1] != status:
                self.changes.append((time.monotonic(), status))
            await asyncio.sleep(0.01)

    async def __aenter__(self) -> ReadyWatch:
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
        self._client.close()


def kill(pid: int) -> None:
    """As the system does when memory is short."""
    os.kill(pid, signal.SIGKILL)
