"""What a request meets before a route: keys, scopes, limits, bounds on the body. No model is needed."""

from __future__ import annotations

import gzip
import time
from collections.abc import Iterator
from datetime import date
from typing import Any

import httpx
import pytest
from tests.serve.raw import Client, exchange
from tests.serve.running import Running, Setup, running

from lepton_ai.serve.access.keys import Key, KeyRing, digest, new_secret
from lepton_ai.serve.access.limits import Limits
from lepton_ai.serve.access.options import AccessOptions
from lepton_ai.serve.access.rate_limits import RateLimits
from lepton_ai.serve.access.scopes import Scope
from lepton_ai.serve.http.bounds import Bounds

PLAIN, METRICS, EXPIRED, LIMITED = (new_secret() for _ in range(4))
BOUNDS = Bounds(max_body_bytes=1 << 20, body_s=0.5)


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    keys = [
        Key("plain", digest(PLAIN)),
        Key("prometheus", digest(METRICS), frozenset((Scope.METRICS,))),
        Key("expired", digest(EXPIRED), expires=date(2020, 1, 1)),
        Key("limited", digest(LIMITED), limits=Limits(requests_per_minute=2, tokens_per_minute=100)),
    ]
    stopped_clock = RateLimits(lambda: 0.0)
    with running({}, setup=Setup(AccessOptions(keys=KeyRing(keys)), BOUNDS, stopped_clock)) as made:
        yield made


@pytest.fixture(scope="module")
def open_server() -> Iterator[Running]:
    with running({}) as made:
        yield made


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


def error_of(answer: httpx.Response) -> tuple[int, str, str]:
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and answer.headers["x-request-id"]
    return answer.status_code, error["type"], error["code"]


def post(server: Running, body: bytes, **headers: str) -> httpx.Response:
    usual = {"authorization": f"Bearer {PLAIN}", "content-type": "application/json"}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.post(f"{server.url}/v1/chat/completions", headers=usual | named, content=body)


def test_a_key_opens_what_its_scopes_say(server: Running) -> None:
    assert httpx.get(f"{server.url}/v1/models", headers=bearer(PLAIN)).status_code == 200
    for secret, path, scope in (
        (PLAIN, "/metrics", "metrics"),
        (PLAIN, "/admin/drain", "admin"),
        (METRICS, "/v1/models", "models"),
        (METRICS, "/v1/models/x", "models"),
        (METRICS, "/v1/chat/completions", "inference"),
        (METRICS, "/tokenize", "inference"),
    ):
        answer = httpx.get(f"{server.url}{path}", headers=bearer(secret))
        assert error_of(answer) == (403, "permission_error", "permission_denied")
        assert f"expected one with the scope {scope}, which" in answer.json()["error"]["message"]
    assert httpx.get(f"{server.url}/version", headers=bearer(METRICS)).status_code == 200


def test_a_key_that_has_expired(server: Running) -> None:
    answer = httpx.get(f"{server.url}/v1/models", headers=bearer(EXPIRED))
    assert error_of(answer) == (401, "authentication_error", "invalid_api_key")
    assert answer.headers["www-authenticate"] == "Bearer" and "2020-01-01" in answer.json()["error"]["message"]


def test_a_key_that_is_used_up(server: Running) -> None:
    url = f"{server.url}/v1/models"
    first = httpx.get(url, headers=bearer(LIMITED))
    assert first.status_code == 200
    limits = {name: value for name, value in first.headers.items() if name.startswith("x-ratelimit")}
    assert limits == {
        "x-ratelimit-limit-requests": "2",
        "x-ratelimit-remaining-requests": "1",
        "x-ratelimit-reset-requests": "30s",
        "x-ratelimit-limit-tokens": "100",
        "x-ratelimit-remaining-tokens": "100",
        "x-ratelimit-reset-tokens": "0ms",
    }
    missing = httpx.get(f"{server.url}/nothing", headers=bearer(LIMITED))
    assert missing.status_code == 404 and missing.headers["x-ratelimit-remaining-requests"] == "0"
    refused = httpx.get(url, headers=bearer(LIMITED))
    assert error_of(refused) == (429, "rate_limit_error", "rate_limit_exceeded")
    assert refused.headers["retry-after"] == "30" and refused.headers["x-ratelimit-reset-requests"] == "1m0s"
    forbidden = httpx.get(f"{server.url}/metrics", headers=bearer(LIMITED))
    assert forbidden.status_code == 403 and forbidden.headers["x-ratelimit-remaining-requests"] == "0"
    free = httpx.get(url, headers=bearer(PLAIN))
    assert free.status_code == 200 and not [name for name in free.headers if name.startswith("x-ratelimit")]


def test_bodies_that_are_compressed_are_refused(server: Running) -> None:
    bomb = gzip.compress(b" " * (100 << 20))
    assert len(bomb) < BOUNDS.max_body_bytes
    for encoding in ("gzip", "deflate", "br", "GZIP", "identity, gzip"):
        answer = post(server, bomb, content_encoding=encoding)
        assert error_of(answer) == (415, "invalid_request_error", "unsupported_body")
    assert post(server, b"{}", content_encoding="identity").status_code == 400


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "application/jsonx"])
def test_bodies_that_are_not_json_are_refused(open_server: Running, kind: str) -> None:
    """A page of another site can send these without asking whether it may."""
    answer = post(open_server, b'{"model": "x"}', content_type=kind)
    assert error_of(answer) == (415, "invalid_request_error", "unsupported_body")
    assert post(open_server, b"{}", content_type="Application/JSON; charset=utf-8").status_code == 400


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b"[" * 500_000,
        b'{"model": ' + b"9" * 500_000 + b"}",
        b'{"model": "\xff\xfe"}',
        b"\x00",
        b'{"model": "x", "messages": ' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"' + b"a" * 900_000 + b'": 1}',
    ],
)
def test_json_that_is_hostile_is_refused_at_once(server: Running, body: bytes) -> None:
    started = time.monotonic()
    answer = post(server, body)
    assert error_of(answer) == (400, "invalid_request_error", "invalid_request")
    assert time.monotonic() - started < 2 and len(answer.content) < 2000


def test_a_chunked_body_is_refused_as_soon_as_it_is_too_large(server: Running) -> None:
    with Client(server.url) as client:
        head = f"POST /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {PLAIN}\r\n"
        client.send(head.encode() + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
        for _ in range(17):
            client.send(chunk)
        answer = client.answer()
        assert answer is not None and answer.status == 413 and answer.error["code"] == "body_too_large"


def test_a_length_that_is_too_large_is_refused_before_the_body(server: Running) -> None:
    for length in (str((1 << 20) + 1), "9" * 18):
        head = f"POST /x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {PLAIN}\r\nContent-Length: {length}\r\n\r\n"
        answer = exchange(server.url, head.encode())
        assert answer is not None and answer.status == 413 and answer.error["code"] == "body_too_large"


def test_a_body_that_does_not_come_in_time(server: Running) -> None:
    """Also one that is shorter than its length says."""
    with Client(server.url) as client:
        head = f"POST /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {PLAIN}\r\n"
        client.send(head.encode() + b"Content-Type: application/json\r\nContent-Length: 10\r\n\r\n{}")
        answer = client.answer()
        assert answer is not None and answer.status == 408 and answer.error["code"] == "request_timeout"
        assert client.is_ended()


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        (b"/v1/models/../../health", 404, "model_not_found"),
        (b"/v1/models/%2e%2e/%2e%2e/health", 404, "model_not_found"),
        (b"/v1/models/%00", 400, "invalid_request"),
        (b"/version%0a", 400, "invalid_request"),
        (b"/metrics%0A", 400, "invalid_request"),
        (b"/v1/models/%ff%fe", 404, "model_not_found"),
        (b"/v1/models/%0d%0aset-cookie:x", 400, "invalid_request"),
        (b"/v1/models/" + b"a" * 20_000, 404, "model_not_found"),
        (b"/v1/models/" + b"a" * 40_000, 431, "headers_too_large"),
        (b"/health/", 404, "not_found"),
        (b"//health", 404, "not_found"),
        (b"/%2fhealth", 404, "not_found"),
        (b"/V1/models", 404, "not_found"),
        (b"*", 404, "not_found"),
        (b"/v1/models/\xc3\xa9", 400, "invalid_request"),
        (b"models", 400, "invalid_request"),
    ],
)
def test_paths_that_are_tricks(server: Running, path: bytes, status: int, code: str) -> None:
    head = b"GET " + path + b" HTTP/1.1\r\nHost: [\r\nAuthorization: Bearer " + PLAIN.encode() + b"\r\n\r\n"
    answer = exchange(server.url, head)
    assert answer is not None and (answer.status, answer.error["code"]) == (status, code)
    assert len(answer.body) < 500 and "location" not in answer.headers and "set-cookie" not in answer.headers


@pytest.mark.parametrize("path", ["/health/../v1/models", "/health/", "/ready/x", "/HEALTH", "//health", "/health%20"])
def test_a_path_like_an_open_one_needs_a_key(server: Running, path: str) -> None:
    answer = exchange(server.url, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert answer is not None and answer.status == 401


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "GET", "TRACE", "OPTIONS"])
def test_methods_that_a_route_does_not_have(server: Running, method: str) -> None:
    answer = httpx.request(method, f"{server.url}/v1/chat/completions", headers=bearer(PLAIN))
    assert error_of(answer) == (405, "invalid_request_error", "method_not_allowed")


def test_without_keys_only_this_machine_is_served(open_server: Running) -> None:
    """A page of another site, whose name leads to this machine for a moment, sends that name along."""
    url = f"{open_server.url}/v1/models"
    for host in ("127.0.0.1", "127.0.0.1:8000", "localhost", "LOCALHOST:1", "[::1]:8000", "127.1.2.3"):
        assert httpx.get(url, headers={"host": host}).status_code == 200
    for host in (
        "evil.example",
        "evil.example:8000",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "10.0.0.1",
        "",
    ):
        assert error_of(httpx.get(url, headers={"host": host})) == (403, "permission_error", "permission_denied")
    assert httpx.get(f"{open_server.url}/health", headers={"host": "probe"}).status_code == 200


def test_a_failure_that_nobody_foresaw(
    open_server: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise KeyError("what came")

    assert open_server.service is not None
    monkeypatch.setattr(type(open_server.service), "model", fail)
    answer = httpx.get(f"{open_server.url}/v1/models/x", headers={"x-request-id": "mine"})
    assert error_of(answer) == (500, "server_error", "internal_error")
    assert answer.json()["error"]["message"] == "internal error; the server's log has more about request mine"
    assert [record.getMessage() for record in caplog.records] == ["request mine failed"]
