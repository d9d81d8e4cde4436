"""What Prometheus is told of known requests."""

from __future__ import annotations

import gzip
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics_families
from tests.engine.published import SENTENCE_FILES, published_bert, write_files
from tests.engine.tiny_gguf import tiny_gguf
from tests.serve.running import Running, running
from tests.serve.scraping import Change, Samples, samples_of, scrape, value

from lepton_ai import LLM, SamplingParams
from lepton_ai.backends.base import BLOCK_SIZE
from lepton_ai.serve.access import Key, KeyRing, digest, new_secret
from lepton_ai.serve.access.scopes import Scope
from lepton_ai.serve.metrics.model_meter import one_two_five
from lepton_ai.version import __version__

SECRET = new_secret()
HEADERS = {"authorization": f"Bearer {SECRET}"}
MESSAGES: list[Any] = [{"role": "user", "content": "a question that is longer than two blocks"}]
PLAIN: dict[str, Any] = {"model": "tiny", "temperature": 0, "extra_body": {"ignore_eos": True}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("models")
    encoder = write_files(folder / "bert", published_bert() | SENTENCE_FILES)
    paths = {"tiny": tiny_gguf(folder / "tiny.gguf"), "bert": encoder}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEPTON_HOME", str(tmp_path_factory.mktemp("home")))
        with running(paths, KeyRing([Key("me", digest(SECRET), frozenset(Scope))])) as made:
            yield made


@pytest.fixture
def client(server: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=SECRET, max_retries=0) as made:
        yield made


@pytest.fixture
def before(server: Running) -> Samples:
    return scrape(server.url, HEADERS)


def changed(server: Running, before: Samples) -> Change:
    return Change(before, scrape(server.url, HEADERS))


def test_a_completion_is_counted_to_the_token(client: openai.OpenAI, server: Running, before: Samples) -> None:
    began = time.monotonic()
    answer = client.completions.create(prompt="x" * 40, max_tokens=8, **PLAIN)
    took = time.monotonic() - began
    assert answer.usage is not None and (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (40, 8)
    change = changed(server, before)
    assert change("vllm:prompt_tokens_total") == change("vllm:prefix_cache_queries_total") == 40
    assert change("vllm:generation_tokens_total") == 8
    assert change("lepton:computed_tokens_total") == 47 == change("vllm:iteration_tokens_total_sum")
    assert change("lepton:engine_steps_total") == 8 == change("vllm:iteration_tokens_total_count")
    assert change("vllm:iteration_tokens_total_bucket", le="1.0") == 7
    assert change("vllm:iteration_tokens_total_bucket", le="32.0") == 7
    assert change("vllm:iteration_tokens_total_bucket", le="64.0") == 8
    for reason, count in (("length", 1), ("stop", 0), ("abort", 0), ("error", 0)):
        assert change("vllm:request_success_total", finished_reason=reason) == count
    assert change("vllm:time_to_first_token_seconds_count") == 1
    assert change("vllm:inter_token_latency_seconds_count") == 7
    assert change("vllm:e2e_request_latency_seconds_count") == 1
    first, between = change("vllm:time_to_first_token_seconds_sum"), change("vllm:inter_token_latency_seconds_sum")
    assert 0 < first + between <= change("vllm:e2e_request_latency_seconds_sum") <= took
    assert change("vllm:request_prompt_tokens_sum") == 40 and change("vllm:request_generation_tokens_sum") == 8
    assert change("vllm:request_prompt_tokens_bucket", le="20.0") == 0
    assert change("vllm:request_prompt_tokens_bucket", le="50.0") == 1
    assert change("vllm:request_generation_tokens_bucket", le="5.0") == 0
    assert change("vllm:request_generation_tokens_bucket", le="10.0") == 1
    phases = ("queue", "prefill", "decode", "inference")
    assert [change(f"vllm:request_{phase}_time_seconds_count") for phase in phases] == [1, 1, 1, 1]
    queue, prefill, decode, inference = (change(f"vllm:request_{phase}_time_seconds_sum") for phase in phases)
    assert prefill + decode == pytest.approx(inference) and 0 < queue + inference <= took
    assert change("lepton:http_requests_total", model=None, route="/v1/completions", status="200") == 1


def test_what_the_prefix_cache_finds(client: openai.OpenAI, server: Running) -> None:
    client.completions.create(prompt="once more " * 5, max_tokens=2, **PLAIN)
    before = scrape(server.url, HEADERS)
    client.completions.create(prompt="once more " * 5, max_tokens=2, **PLAIN)
    change = changed(server, before)
    assert change("vllm:prefix_cache_queries_total") == 50
    assert change("vllm:prefix_cache_hits_total") == 49 // BLOCK_SIZE * BLOCK_SIZE == 48
    assert change("lepton:computed_tokens_total") == 3


def test_several_completions_of_a_streamed_chat(client: openai.OpenAI, server: Running, before: Samples) -> None:
    list(client.chat.completions.create(messages=MESSAGES, max_tokens=5, n=3, stream=True, **PLAIN))
    change = changed(server, before)
    assert change("vllm:request_success_total", finished_reason="length") == 3
    assert change("vllm:generation_tokens_total") == change("vllm:request_generation_tokens_sum") == 15
    assert change("vllm:time_to_first_token_seconds_count") == 3
    assert change("vllm:inter_token_latency_seconds_count") == 12


def test_a_stop_string_is_a_success(client: openai.OpenAI, server: Running, before: Samples) -> None:
    whole = client.completions.create(prompt="stop", max_tokens=30, **PLAIN).choices[0].text
    stopped = client.completions.create(prompt="stop", max_tokens=30, stop=[whole[2]], **PLAIN)
    assert stopped.choices[0].finish_reason == "stop"
    change = changed(server, before)
    assert change("vllm:request_success_total", finished_reason="length") == 1
    assert change("vllm:request_success_total", finished_reason="stop") == 1
    assert change("vllm:request_success_total", finished_reason="abort") == 0


def test_an_encoder(client: openai.OpenAI, server: Running, before: Samples) -> None:
    client.embeddings.create(model="bert", input=["a man plays", "who"])
    with pytest.raises(openai.BadRequestError):
        client.embeddings.create(model="bert", input=["who " * 600])
    after = scrape(server.url, HEADERS)
    change = Change(before, after)
    assert change("vllm:request_success_total", model="bert", finished_reason="stop") == 1
    assert change("vllm:e2e_request_latency_seconds_count", model="bert") == 1
    assert change("vllm:request_success_total", model="bert", finished_reason="error") == 0
    assert value(after, "lepton:engine_up", model_name="bert") == 1
    assert change("lepton:requests_refused_total", model=None, code="context_length_exceeded", status="400") == 1


def test_refusals_are_counted_by_code_and_status(client: openai.OpenAI, server: Running, before: Samples) -> None:
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="no such model", messages=MESSAGES)
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(messages=MESSAGES, max_tokens=10**6, n=2, **PLAIN)
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(messages=MESSAGES, top_p=2, **PLAIN)
    httpx.get(f"{server.url}/v1/models", headers={"authorization": "Bearer guessed"})
    httpx.get(f"{server.url}/nowhere", headers=HEADERS)
    httpx.get(f"{server.url}/v1/completions", headers=HEADERS)
    httpx.post(f"{server.url}/v1/completions", headers=HEADERS, content=b" " * ((1 << 20) + 1))
    change = changed(server, before)
    counted = {
        ("model_not_found", "404"): 1,
        ("context_length_exceeded", "400"): 1,
        ("invalid_request", "400"): 1,
        ("invalid_api_key", "401"): 1,
        ("not_found", "404"): 1,
        ("method_not_allowed", "405"): 1,
        ("body_too_large", "413"): 1,
    }
    for (code, status), count in counted.items():
        assert change("lepton:requests_refused_total", model=None, code=code, status=status) == count, code
    assert change("vllm:request_success_total", finished_reason="error") == 0, "a refusal is no completion"
    route = "/v1/chat/completions"
    assert change("lepton:http_requests_total", model=None, route=route, status="400") == 2
    assert change("lepton:http_requests_total", model=None, route=route, status="404") == 1
    assert change("lepton:http_requests_total", model=None, route="none", status="404") == 1


def test_names_that_callers_make_up_become_no_labels(client: openai.OpenAI, server: Running) -> None:
    def probe(index: int) -> None:
        with pytest.raises(openai.NotFoundError):
            client.completions.create(model=f"made-up-{index}", prompt="a secret prompt")
        httpx.get(f"{server.url}/made-up/{index}", headers=HEADERS | {"x-request-id": f"made-up-{index}"})
        httpx.get(f"{server.url}/v1/models/made-up-{index}", headers=HEADERS)
        httpx.get(f"{server.url}/v1/models", headers={"authorization": f"Bearer sk-made-up-{index}"})

    probe(0)
    client.completions.create(prompt="a secret prompt", max_tokens=3, user="made-up", **PLAIN)
    scrape(server.url, HEADERS)
    many = len(scrape(server.url, HEADERS))
    for index in range(1, 20):
        probe(index)
    text = httpx.get(f"{server.url}/metrics", headers=HEADERS).text
    assert len(samples_of(text)) == many
    assert not [word for word in ("made-up", "secret", SECRET, digest(SECRET), "sk-") if word in text]


def test_what_is_known_of_models_and_processes(server: Running) -> None:
    samples = scrape(server.url, HEADERS)
    assert value(samples, "lepton:build_info", version=__version__) == 1
    assert value(samples, "lepton:engine_up", model_name="tiny", engine="0") == 1
    assert value(samples, "lepton:model_info", model_name="tiny", architecture="llama") == 1
    assert server.service is not None
    assert value(samples, "lepton:kv_cache_bytes", model_name="tiny") == server.service.models["tiny"].info.kv_bytes
    for figure in ("resident_memory_bytes", "cpu_seconds_total", "open_fds"):
        for process in ("process_", "lepton:engine_process_"):
            assert value(samples, process + figure) > 0
    rss = "resident_memory_bytes"
    assert value(samples, f"process_{rss}") != value(samples, f"lepton:engine_process_{rss}")


def test_formats(server: Running) -> None:
    def get(accept: str, encoding: str = "identity", query: str = "") -> httpx.Response:
        headers = HEADERS | {"accept": accept, "accept-encoding": encoding}
        return httpx.get(f"{server.url}/metrics{query}", headers=headers)

    plain = get("text/plain")
    assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
    opened = get("application/openmetrics-text; version=1.0.0")
    assert opened.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    parsed = open_metrics_families(opened.text)  # type: ignore[no-untyped-call]
    families = {family.name: family for family in parsed}
    assert families["vllm:generation_tokens"].type == "counter"
    assert families["vllm:iteration_tokens_total"].type == "histogram"
    assert {s.name for s in families["vllm:generation_tokens"].samples} == {"vllm:generation_tokens_total"}
    for accept in ("application/openmetrics-text; version=1.0.0; escaping=allow-utf-8", "text/plain; version=1.0.0"):
        other = get(accept)
        assert other.headers["content-type"].startswith(accept.split(";")[0])
        assert "\nvllm:generation_tokens_total{" in other.text and "\nvllm_" not in other.text
    with httpx.stream(
        "GET", f"{server.url}/metrics", headers=HEADERS | {"accept": "text/plain", "accept-encoding": "gzip"}
    ) as raw:
        assert raw.headers["content-encoding"] == "gzip"
        assert b"vllm:num_requests_running" in gzip.decompress(b"".join(raw.iter_raw()))
    only = samples_of(get("text/plain", query="?name[]=vllm:num_requests_waiting").text)
    assert [name for name, _ in only] == ["vllm:num_requests_waiting"]


def test_metrics_need_a_key(server: Running) -> None:
    answer = httpx.get(f"{server.url}/metrics")
    assert answer.status_code == 401 and "vllm" not in answer.text
    assert httpx.post(f"{server.url}/metrics", headers=HEADERS).status_code == 405


def test_the_same_counts_without_http(tmp_path: Path) -> None:
    with LLM(tiny_gguf(tmp_path / "tiny.gguf"), num_threads=1) as llm:
        llm.generate(["x" * 20], SamplingParams(max_tokens=4, ignore_eos=True))
        stats = llm.stats()
    assert (stats.step_tokens.count, stats.step_tokens.total) == (4, 23)
    assert (stats.queue_s.count, stats.decode_s.count) == (1, 1)


def test_bounds_of_token_counts() -> None:
    assert one_two_five(256) == (1, 2, 5, 10, 20, 50, 100, 200)
    assert one_two_five(1) == (1,) and one_two_five(50) == (1, 2, 5, 10, 20, 50)
