"""Scrapes while an engine is stopped, and after it has died: they say what is known, in time."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.engine.tiny_gguf import tiny_gguf
from tests.serve.running import Running, running
from tests.serve.scraping import Samples, scrape, value, wait_for

from lepton_ai.engine.remote.connection import Connection

PROMPT: dict[str, Any] = {"model": "tiny", "prompt": "hello", "max_tokens": 4, "ignore_eos": True}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.setenv("LEPTON_HOME", str(tmp_path))
    with running({"tiny": tiny_gguf(tmp_path / "tiny.gguf")}) as made:
        yield made


def engine_pid(server: Running) -> int:
    assert server.service is not None
    return server.service.models["tiny"].engine_pid


def connection(server: Running) -> Connection:
    assert server.service is not None
    return server.service.models["tiny"]._llm._client._connection


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that stands still; it may be gone afterwards."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def timed_scrape(server: Running) -> tuple[Samples, float]:
    began = time.monotonic()
    samples = scrape(server.url)
    return samples, time.monotonic() - began


def test_an_engine_that_does_not_answer(server: Running) -> None:
    httpx.post(f"{server.url}/v1/completions", json=PROMPT).raise_for_status()
    assert value(scrape(server.url), "lepton:engine_up", model_name="tiny") == 1
    with stopped(engine_pid(server)):
        for _ in range(3):
            samples, took = timed_scrape(server)
            assert 0.9 < took < 5
            assert value(samples, "lepton:engine_up", model_name="tiny") == 0
            assert value(samples, "vllm:generation_tokens_total", model_name="tiny") == 4, "what was known is lost"
        assert len(connection(server)._replies) == 1, "questions pile up"
    wait_for(lambda: value(scrape(server.url), "lepton:engine_up", model_name="tiny") == 1)


def test_requests_under_way(server: Running) -> None:
    is_over = threading.Event()

    def load() -> None:
        while not is_over.is_set():
            httpx.post(f"{server.url}/v1/completions", json=PROMPT | {"max_tokens": 200}).raise_for_status()

    with ThreadPoolExecutor(3) as pool:
        loads = [pool.submit(load) for _ in range(3)]
        running: list[float] = []
        usage: list[float] = []

        def is_seen() -> bool:
            samples = scrape(server.url)
            running.append(value(samples, "vllm:num_requests_running", model_name="tiny"))
            usage.append(value(samples, "vllm:kv_cache_usage_perc", model_name="tiny"))
            return max(running) >= 2 and max(usage) > 0

        try:
            wait_for(is_seen)
        finally:
            is_over.set()
        for each in loads:
            each.result()
    assert max(running) <= 3 and max(usage) < 1
    samples = scrape(server.url)
    for name in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc"):
        assert value(samples, f"vllm:{name}", model_name="tiny") == 0


def test_http_requests_in_flight(server: Running) -> None:
    assert value(scrape(server.url), "lepton:http_requests_in_flight") == 0, "the scrape does not count"
    with ThreadPoolExecutor(2) as pool:
        with stopped(engine_pid(server)):
            asked = [pool.submit(httpx.post, f"{server.url}/v1/completions", json=PROMPT) for _ in range(2)]
            wait_for(lambda: value(scrape(server.url), "lepton:http_requests_in_flight") == 2)
        assert [each.result().status_code for each in asked] == [200, 200]
    wait_for(lambda: value(scrape(server.url), "lepton:http_requests_in_flight") == 0)


def test_who_leaves_aborts(server: Running) -> None:
    with stopped(engine_pid(server)):
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{server.url}/v1/completions", json=PROMPT, timeout=0.5)
        wait_for(lambda: value(scrape(server.url), "lepton:http_requests_in_flight") == 0)
        scrape(server.url)  # the engine is asked something after it was told to cancel
    aborts = {"model_name": "tiny", "finished_reason": "abort"}
    wait_for(lambda: value(scrape(server.url), "vllm:request_success_total", **aborts) == 1)
    samples = scrape(server.url)
    for name in ("time_to_first_token_seconds", "e2e_request_latency_seconds", "request_generation_tokens"):
        assert value(samples, f"vllm:{name}_count", model_name="tiny") == 0
    assert value(samples, "lepton:requests_refused_total", code="client_left", status="499") == 1


def test_an_engine_that_is_replaced(server: Running) -> None:
    httpx.post(f"{server.url}/v1/completions", json=PROMPT).raise_for_status()
    assert value(scrape(server.url), "vllm:generation_tokens_total", model_name="tiny") == 4
    with ThreadPoolExecutor(1) as pool, stopped(engine_pid(server)):
        asked = pool.submit(httpx.post, f"{server.url}/v1/completions", json=PROMPT, timeout=60)
        wait_for(lambda: value(scrape(server.url), "lepton:http_requests_in_flight") == 1)
        wait_for(lambda: bool(connection(server)._generations))
        samples, took = timed_scrape(server)
        assert took < 5 and value(samples, "lepton:engine_up", model_name="tiny") == 0
        assert value(samples, "vllm:generation_tokens_total", model_name="tiny") == 4
        os.kill(engine_pid(server), signal.SIGKILL)
        assert asked.result().json()["error"]["code"] == "engine_died"
    wait_for(lambda: httpx.get(f"{server.url}/ready").status_code == 200)
    samples = scrape(server.url)
    assert value(samples, "lepton:engine_up", model_name="tiny") == 1
    assert value(samples, "vllm:generation_tokens_total", model_name="tiny") == 0, "those of the engine that runs"
    assert value(samples, "vllm:request_success_total", model_name="tiny", finished_reason="error") == 1
    assert value(samples, "lepton:requests_refused_total", code="engine_died", status="503") == 1
