"""What is said by a server that is not ready, or no longer: without an engine."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from tests.serve.running import app_without_models

from lepton_ai.serve.access import Key, KeyRing, digest, new_secret
from lepton_ai.serve.life.state import Life, Phase

SECRET = new_secret()
KEY = {"authorization": f"Bearer {SECRET}"}


def ask(life: Life, method: str, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
    app = app_without_models(KeyRing([Key("me", digest(SECRET))]), life)

    async def main() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return await client.request(method, path, headers=headers)

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("phase", "code", "retry_s"), [("starting", "starting", "5"), ("draining", "shutting_down", "1")]
)
def test_nothing_is_taken(phase: str, code: str, retry_s: str) -> None:
    life = Life(Phase(phase))
    for method, path in (("POST", "/v1/chat/completions"), ("POST", "/v1/embeddings"), ("GET", "/v1/models")):
        answer = ask(life, method, path, KEY)
        assert answer.status_code == 503 and answer.json()["error"]["code"] == code
        assert answer.headers["retry-after"] == retry_s and answer.headers["connection"] == "close"
        assert answer.headers["x-request-id"]
        assert ask(life, method, path).status_code == 401, "strangers are not told"
    ready = ask(life, "GET", "/ready")
    assert ready.status_code == 503 and ready.json() == {"status": phase, "models": []}
    assert ask(life, "GET", "/health").status_code == 200
    assert ask(life, "GET", "/version", KEY).status_code == 200
    assert life.num_requests == 0


def test_what_is_ready_says_so() -> None:
    life = Life(Phase.READY)
    assert ask(life, "GET", "/ready").json() == {"status": "ready", "models": []}
    assert ask(life, "GET", "/v1/models", KEY).json()["data"] == []
    assert ask(life, "GET", "/v1/models", KEY | {"x-request-timeout": "-1"}).json()["error"]["param"] == (
        "x-request-timeout"
    )
