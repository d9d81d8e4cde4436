"""What requests cost their key: real tokens, of answers that are streamed and of those that nobody waits for."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.engine.published import SENTENCE_FILES, published_bert, write_files
from tests.engine.tiny_gguf import tiny_gguf
from tests.serve.raw import Client
from tests.serve.running import Running, Setup, running
from tests.serve.test_access_log import lines_of

from lepton_ai.serve.access.keys import Key, KeyRing, digest, new_secret
from lepton_ai.serve.access.limits import Limits
from lepton_ai.serve.access.options import AccessOptions
from lepton_ai.serve.access.rate_limits import RateLimits
from lepton_ai.serve.http.access_log import AccessLog
from lepton_ai.serve.http.bounds import Bounds

SIZE = 10**6
SECRET = new_secret()
KEY = Key("me", digest(SECRET), limits=Limits(tokens_per_minute=SIZE))
CHAT: dict[str, Any] = {
    "model": "tiny",
    "messages": [{"role": "user", "content": "hello"}],
    "max_tokens": 8,
    "ignore_eos": True,
}
STOPPED = RateLimits(lambda: 0.0)
MAX_ATTEMPTS = 20


@pytest.fixture(scope="module")
def log_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logs") / "access.log"


@pytest.fixture(scope="module")
def server(log_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("models")
    encoder = write_files(folder / "bert", published_bert() | SENTENCE_FILES)
    log = AccessLog(str(log_path))
    setup = Setup(AccessOptions(keys=KeyRing([KEY])), Bounds(), STOPPED, log)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEPTON_HOME", str(folder / "home"))
        with running({"tiny": tiny_gguf(folder / "tiny.gguf"), "bert": encoder}, setup=setup) as made:
            yield made
    log.close()


@pytest.fixture
def client(server: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, headers={"authorization": f"Bearer {SECRET}"}, timeout=60) as made:
        yield made


def charged() -> int:
    """How many tokens the key has used."""
    return SIZE - int(STOPPED.headers(KEY)["x-ratelimit-remaining-tokens"])


def settled(is_enough: Callable[[int], bool], before: int) -> int:
    """What was charged since, once it is enough and no more comes: charges follow the answer's last byte."""
    deadline, last = time.monotonic() + 20, -1
    while time.monotonic() < deadline:
        used = charged() - before
        if is_enough(used) and used == last:
            return used
        last = used
        time.sleep(0.1)
    raise AssertionError(f"{charged() - before} tokens were charged")


def test_a_whole_answer(client: httpx.Client) -> None:
    before = charged()
    answer = client.post("/v1/chat/completions", json=CHAT | {"n": 2})
    usage = answer.json()["usage"]
    assert usage["completion_tokens"] == 16
    assert answer.headers["x-ratelimit-remaining-tokens"] == str(SIZE - before - usage["total_tokens"])
    assert settled(lambda n: n > 0, before) == usage["total_tokens"]


def test_a_streamed_answer(client: httpx.Client, log_path: Path) -> None:
    usage = client.post("/v1/chat/completions", json=CHAT | {"temperature": 0}).json()["usage"]
    before = charged()
    body = CHAT | {"temperature": 0, "stream": True}
    answer = client.post("/v1/chat/completions", json=body, headers={"x-request-id": "streamed"})
    assert answer.text.endswith("data: [DONE]\n\n")
    assert settled(lambda n: n >= usage["total_tokens"], before) == usage["total_tokens"]
    (line,) = [line for line in lines_of(log_path) if line["request_id"] == "streamed"]
    assert (line["key"], line["model"], line["stream"], line["is_complete"]) == ("me", "tiny", True, True)
    assert (line["prompt_tokens"], line["completion_tokens"]) == (usage["prompt_tokens"], usage["completion_tokens"])


def test_several_prompts(client: httpx.Client) -> None:
    before = charged()
    asked = {"model": "tiny", "prompt": ["hello", "you there"], "max_tokens": 4, "n": 2, "ignore_eos": True}
    usage = client.post("/v1/completions", json=asked).json()["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (5 + 9, 16)
    assert settled(lambda n: n >= 30, before) == 30
    before = charged()
    client.post("/v1/completions", json=asked | {"stream": True})
    assert settled(lambda n: n >= 30, before) == 30


def test_vectors(client: httpx.Client) -> None:
    before = charged()
    answer = client.post("/v1/embeddings", json={"model": "bert", "input": ["a man plays", "who"]})
    assert settled(lambda n: n > 0, before) == answer.json()["usage"]["total_tokens"]


def test_what_runs_nothing_costs_nothing(client: httpx.Client) -> None:
    before = charged()
    assert client.get("/v1/models").status_code == 200
    assert client.post("/v1/chat/completions", json=CHAT | {"model": "none"}).status_code == 404
    assert client.post("/v1/chat/completions", json=CHAT | {"max_tokens": 10**6}).status_code == 400
    assert settled(lambda n: True, before) == 0


def is_seen_generating(server: Running, log_path: Path, request_id: str) -> bool:
    """Wait until a request has tokens, or is over: who waits here may not have had a core while it ran."""
    assert server.service is not None
    connection = server.service.models["tiny"]._llm._client._connection
    while not any(each.num_output_tokens for each in tuple(connection._generations.values())):
        if any(line["request_id"] == request_id for line in lines_of(log_path)):
            return False
        time.sleep(0.001)
    return True


@pytest.mark.parametrize("stream", ["true", "false"])
def test_who_leaves_pays_for_what_was_made(server: Running, client: httpx.Client, log_path: Path, stream: str) -> None:
    prompt_tokens = client.post("/v1/chat/completions", json=CHAT).json()["usage"]["prompt_tokens"]
    body = json.dumps(CHAT | {"max_tokens": 200, "stream": stream == "true"})
    for attempt in range(MAX_ATTEMPTS):
        before, request_id = settled(lambda n: True, 0), f"{stream}-{attempt}"
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SECRET}"
        head += f"\r\nX-Request-Id: {request_id}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        with Client(server.url) as leaving:
            leaving.send(f"{head}\r\n\r\n{body}".encode())
            if is_seen_generating(server, log_path, request_id):
                break
    else:
        pytest.fail(f"{MAX_ATTEMPTS} answers were over before anybody looked")
    used = settled(lambda n: n > prompt_tokens, before)
    assert prompt_tokens < used <= prompt_tokens + 200
    lines = [line for line in lines_of(log_path) if line["request_id"] == request_id]
    assert [line["prompt_tokens"] + line["completion_tokens"] for line in lines] == [used]
