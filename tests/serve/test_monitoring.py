"""What runs beside the server: metrics at a port of their own, and lines about the engine."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from queue import Queue
from threading import Thread

import httpx
import pytest
from tests.cli.trace.traced import STATS
from tests.engine.tiny_gguf import tiny_gguf
from tests.serve.scraping import scrape, value

from lepton_ai.cli.main import main
from lepton_ai.errors import InvalidRequest
from lepton_ai.serve.metrics.monitor import Monitor
from lepton_ai.serve.metrics.monitoring import MonitoringOptions, monitoring
from lepton_ai.serve.metrics.stats_log import StatsLog
from lepton_ai.serve.service import Service

IDLE = replace(STATS, num_running=0, num_waiting=0, kv_blocks_used=0)


def test_a_line_has_the_rates_since_the_last() -> None:
    log = StatsLog("tiny", begun_s=100.0)
    first = replace(STATS, num_steps=3, prompt_tokens=40, cached_tokens=10, output_tokens=5)
    assert log.line(102.0, first) == (
        "tiny: prompt 20.0 tokens/s, generation 2.5 tokens/s, running 2, waiting 1, paused 0, "
        "KV cache 25.0%, prefix cache hits 25.0%, pre-empted 0"
    )
    then = replace(first, num_steps=9, prompt_tokens=80, cached_tokens=40, output_tokens=25, num_preemptions=2)
    assert log.line(112.0, then) == (
        "tiny: prompt 4.0 tokens/s, generation 2.0 tokens/s, running 2, waiting 1, paused 0, "
        "KV cache 25.0%, prefix cache hits 75.0%, pre-empted 2"
    )


def test_an_idle_engine_is_told_of_once() -> None:
    log = StatsLog("tiny", begun_s=0.0)
    line = log.line(10.0, IDLE)
    assert line is not None and "generation 0.0 tokens/s, running 0, waiting 0" in line
    assert log.line(20.0, IDLE) is None and log.line(30.0, IDLE) is None
    assert log.line(40.0, replace(IDLE, num_steps=2, output_tokens=1)) is not None


def test_an_engine_that_does_not_answer_and_one_that_begins_anew() -> None:
    log = StatsLog("tiny", begun_s=0.0)
    log.line(10.0, replace(STATS, num_steps=50, output_tokens=1000))
    assert log.line(20.0, None) == "tiny: the engine does not answer"
    line = log.line(30.0, replace(STATS, num_steps=5, output_tokens=40))
    assert line is not None and "generation 2.0 tokens/s" in line


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("inf"), float("nan")])
def test_an_interval_that_is_none(seconds: float) -> None:
    with pytest.raises(InvalidRequest, match="log_every_s: expected a positive number"):
        MonitoringOptions(log_every_s=seconds)


def test_a_port_has_metrics_and_nothing_else() -> None:
    told: list[str] = []

    async def ask() -> None:
        async with monitoring(Monitor(Service({})), MonitoringOptions(port=0, tell=told.append)):
            url = told[0].removeprefix("metrics at ").removesuffix("/metrics")
            async with httpx.AsyncClient(base_url=url) as client:
                answer = await client.get("/metrics")
                assert answer.status_code == 200 and "lepton:build_info{" in answer.text
                assert (await client.post("/metrics")).status_code == 405
                for path in ("/", "/health", "/v1/models", "/metrics/more"):
                    assert (await client.get(path)).status_code == 404
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/metrics")

    asyncio.run(ask())


def test_a_port_that_is_taken() -> None:
    async def ask(port: int) -> None:
        async with monitoring(Monitor(Service({})), MonitoringOptions(port=port)):
            raise AssertionError("two have the port")

    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(InvalidRequest, match="metrics_port: 127"):
        asyncio.run(ask(taken.getsockname()[1]))


def test_an_address_without_a_port(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "tiny", "--no-auth", "--metrics-host", "0.0.0.0"]) != 0
    assert "--metrics-host: expected --metrics-port beside it" in capsys.readouterr().err


@contextmanager
def serving(*arguments: str) -> Iterator[Queue[str]]:
    """``lepton serve`` in a process, and the lines that it writes."""
    lines: Queue[str] = Queue()
    with subprocess.Popen(
        [sys.executable, "-m", "lepton_ai", "serve", *arguments], stderr=subprocess.PIPE, text=True
    ) as process:
        stderr = process.stderr
        assert stderr is not None

        def read() -> None:
            for line in stderr:
                lines.put(line.rstrip())

        reader = Thread(target=read)
        reader.start()
        try:
            yield lines
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
            reader.join()


def test_the_command_has_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEPTON_HOME", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    model = str(tiny_gguf(tmp_path / "tiny.gguf"))
    beside = ("--metrics-port", "0", "--log-stats", "0.1")
    with serving(model, "--no-auth", "--port", str(port), "--threads", "1", *beside) as lines:
        url, metrics = f"http://127.0.0.1:{port}", None
        while not (line := lines.get(timeout=60)).startswith("serving "):
            if found := re.fullmatch(r"metrics at (http://127\.0\.0\.1:\d+)/metrics", line):
                metrics = found[1]
        assert metrics is not None
        asked = {"model": "tiny", "prompt": "hello", "max_tokens": 4, "ignore_eos": True}
        httpx.post(f"{url}/v1/completions", json=asked, timeout=60).raise_for_status()
        assert httpx.get(f"{url}/metrics").json()["error"]["code"] == "not_found"
        assert value(scrape(metrics), "vllm:generation_tokens_total", model_name="tiny") == 4
        while "generation 0.0" in (line := lines.get(timeout=60)):
            pass
        assert re.fullmatch(r"tiny: prompt [\d.]+ tokens/s, generation [\d.]+ tokens/s, running \d+, .*", line)
