"""What the server costs over the engine: its CPU time for a streamed token, throughput, time to the first token.

    python -m bench.server_cost [--model smollm2] [--streams 16]

All that the server's process does while the streams run counts; the engine has a process of its own. What the engine
takes by itself is measured in this process, in turn with the server.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import uvloop

from bench.figures import Figure, add_output_options, report
from bench.peers.workloads import FIRST_ORDINARY_ID
from lepton_ai import LLM, SamplingParams

MAX_SERVER_US = 80.0
MAX_SLOWDOWN = 1 / 0.9
MAX_ADDED_MS = 3.0

_HOST = "127.0.0.1"
_EVENT = b"data: {"
_PROMPT_TOKENS = 32
_NUM_FIRST = 9
_MAX_ID = 40_000


@dataclass(frozen=True, slots=True)
class Served:
    """One run of streams. ``server_us`` is CPU time of the server's process for each token."""

    seconds: float
    server_us: float


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and all its threads so far."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


@contextmanager
def serving(model: str, num_threads: int) -> Iterator[tuple[int, int]]:
    """A server in a process of its own: its number, and its port."""
    with socket.socket() as free:
        free.bind((_HOST, 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "lepton_ai", "serve", model, "--no-auth", "--json", "--port", str(port)]
    process = subprocess.Popen([*command, "--threads", str(num_threads)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        json.loads(process.stdout.readline())
        yield process.pid, port
    finally:
        process.terminate()
        process.wait()


class _Reader(asyncio.Protocol):
    """Counts events as bytes come: a client that shares the machine with the server must take little of it."""

    def __init__(self) -> None:
        self.first_s: float | None = None
        self.num_events = 0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        num_events = data.count(_EVENT)  # each is sent whole
        if num_events and self.first_s is None:
            self.first_s = time.perf_counter()
        self.num_events += num_events

    def connection_lost(self, error: Exception | None) -> None:
        self.ended.set_result(None)


async def stream(port: int, prompt: Sequence[int], num_tokens: int, model: str) -> tuple[float, int]:
    """Stream one completion; seconds to its first event, and its number of events with text or an end."""
    asked = {"model": model, "prompt": prompt, "max_tokens": num_tokens, "temperature": 0, "stream": True}
    body = json.dumps(asked | {"ignore_eos": True}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\nconnection: close"
    begin = time.perf_counter()
    transport, reader = await asyncio.get_running_loop().create_connection(_Reader, _HOST, port)
    transport.write(head.encode() + b"\r\ncontent-type: application/json\r\n\r\n" + body)
    await reader.ended
    assert reader.first_s is not None, "no event came"
    return reader.first_s - begin, reader.num_events


async def streams(port: int, prompts: Sequence[Sequence[int]], num_tokens: int, model: str) -> int:
    """Stream all of them together; the number of events."""
    done = await asyncio.gather(*(stream(port, prompt, num_tokens, model) for prompt in prompts))
    return sum(count for _, count in done)


def run_streams(pid: int, port: int, prompts: Sequence[Sequence[int]], num_tokens: int, model: str) -> Served:
    """Measure the server while all prompts are streamed together."""
    before, begin = cpu_seconds(pid), time.perf_counter()
    num_events = uvloop.run(streams(port, prompts, num_tokens, model))
    seconds, total = time.perf_counter() - begin, len(prompts) * num_tokens
    assert num_events >= total / 2, f"{num_events} events of {total} tokens"
    return Served(seconds, 1e6 * (cpu_seconds(pid) - before) / total)


@dataclass(frozen=True, slots=True)
class Cost:
    """Medians. ``slowdown``: the time of all streams over the engine's own. ``added_ms``: to the first token."""

    server_us: float
    slowdown: float
    added_ms: float


def measure(options: argparse.Namespace) -> Cost:
    """Both ways in turn, ``options.repeats`` times."""
    rng = np.random.default_rng(0)
    shape = (options.repeats + _NUM_FIRST + 1, options.streams, _PROMPT_TOKENS)
    *prompts, warm_up = rng.integers(FIRST_ORDINARY_ID, _MAX_ID, shape).tolist()
    params = SamplingParams(temperature=0.0, max_tokens=options.tokens, ignore_eos=True)
    slowdowns, costs, added = [], [], []
    with serving(options.model, options.threads) as (pid, port), LLM(options.model, num_threads=options.threads) as llm:
        llm.generate(warm_up, params)
        run_streams(pid, port, warm_up, options.tokens, options.model)
        for batch in prompts[_NUM_FIRST:]:
            begin = time.perf_counter()
            llm.generate(batch, params)
            own = time.perf_counter() - begin
            served = run_streams(pid, port, batch, options.tokens, options.model)
            costs.append(served.server_us)
            slowdowns.append(served.seconds / own)
        for prompt, *_ in prompts[:_NUM_FIRST]:
            begin = time.perf_counter()
            with llm.stream(prompt, params) as one:
                next(one)
                own = time.perf_counter() - begin
            first, _ = uvloop.run(stream(port, prompt, 1, options.model))
            added.append(1e3 * (first - own))
    return Cost(statistics.median(costs), statistics.median(slowdowns), statistics.median(added))


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.server_cost", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=5)
    add_output_options(parser)
    options = parser.parse_args()
    cost = measure(options)
    return report(
        [
            Figure("server CPU, a streamed token", cost.server_us, MAX_SERVER_US, "us"),
            Figure(f"time of {options.streams} streams, x the engine's own", cost.slowdown, MAX_SLOWDOWN, "x"),
            Figure("added to the first token, idle", cost.added_ms, MAX_ADDED_MS, "ms"),
        ],
        options,
    )


if __name__ == "__main__":
    sys.exit(main())
