"""Browsers: what they ask before they ask, and which pages may read an answer."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from tests.serve.running import Running, Setup, running

from lepton_ai.errors import InvalidRequest
from lepton_ai.serve.access.keys import Key, KeyRing, digest, new_secret
from lepton_ai.serve.access.limits import Limits
from lepton_ai.serve.access.options import AccessOptions
from lepton_ai.serve.access.rate_limits import RateLimits
from lepton_ai.serve.http.bounds import Bounds

SECRET = new_secret()
ORIGIN = "https://chat.example.com"
KEYS = KeyRing([Key("me", digest(SECRET), limits=Limits(requests_per_minute=1000))])
PREFLIGHT = {
    "origin": ORIGIN,
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type,x-stainless-os",
}


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    access = AccessOptions(keys=KEYS, cors_origins=(ORIGIN, "http://localhost:3000"))
    with running({}, setup=Setup(access, Bounds(), RateLimits(lambda: 0.0))) as made:
        yield made


def test_a_browser_is_told_without_a_key_that_it_may_ask(server: Running) -> None:
    answer = httpx.options(f"{server.url}/v1/chat/completions", headers=PREFLIGHT)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert answer.headers["access-control-allow-methods"] == "GET, POST, DELETE"
    assert answer.headers["access-control-allow-headers"] == PREFLIGHT["access-control-request-headers"]
    assert answer.headers["access-control-max-age"] == "600" and "origin" in answer.headers["vary"].lower()
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize(
    "origin",
    ["https://chat.example.com.evil.example", "http://chat.example.com", "https://chat.example.com:444", "null", "*"],
)
def test_other_pages_may_not(server: Running, origin: str) -> None:
    asked = httpx.options(f"{server.url}/v1/chat/completions", headers=PREFLIGHT | {"origin": origin})
    assert asked.status_code == 400 and "access-control-allow-origin" not in asked.headers
    headers = {"origin": origin, "authorization": f"Bearer {SECRET}"}
    assert "access-control-allow-origin" not in httpx.get(f"{server.url}/v1/models", headers=headers).headers


def test_answers_and_errors_can_be_read(server: Running) -> None:
    asked = {"origin": ORIGIN, "content-type": "application/json"}
    known = asked | {"authorization": f"Bearer {SECRET}"}
    for status, answer in (
        (200, httpx.get(f"{server.url}/v1/models", headers=known)),
        (401, httpx.get(f"{server.url}/v1/models", headers=asked)),
        (403, httpx.get(f"{server.url}/metrics", headers=known)),
        (404, httpx.get(f"{server.url}/nothing", headers=known)),
        (400, httpx.post(f"{server.url}/tokenize", headers=known, content=b"{")),
        (413, httpx.post(f"{server.url}/tokenize", headers=known, content=b" " * (5 << 20))),
    ):
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        exposed = answer.headers["access-control-expose-headers"].split(", ")
        assert {"x-request-id", "retry-after", "x-ratelimit-remaining-tokens"} <= set(exposed)
        assert {name for name in answer.headers if name.startswith("x-")} <= set(exposed)


def test_a_question_that_no_browser_asks_needs_a_key(server: Running) -> None:
    assert httpx.options(f"{server.url}/v1/models").status_code == 401


def test_without_origins_browsers_are_told_nothing() -> None:
    with running({}, KEYS) as server:
        assert httpx.options(f"{server.url}/v1/chat/completions", headers=PREFLIGHT).status_code == 401
        headers = {"origin": ORIGIN, "authorization": f"Bearer {SECRET}"}
        answer = httpx.get(f"{server.url}/v1/models", headers=headers)
        assert answer.status_code == 200 and not [n for n in answer.headers if n.startswith("access-control")]


def test_any_origin() -> None:
    with running({}, setup=Setup(AccessOptions(keys=KEYS, cors_origins=("*",)))) as server:
        assert httpx.options(server.url, headers=PREFLIGHT).headers["access-control-allow-origin"] == "*"
        answer = httpx.get(f"{server.url}/v1/models", headers={"origin": "https://any.example"})
        assert answer.status_code == 401 and answer.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize(
    "origin", ["", "null", "chat.example.com", "https://x/", "https://x/a", "HTTPS://x", "https://*.x", "https://x:y"]
)
def test_origins_that_no_browser_sends(origin: str) -> None:
    with pytest.raises(InvalidRequest, match="cors_origin: expected"):
        AccessOptions(cors_origins=(origin,))
