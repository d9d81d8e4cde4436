"""Requests that take a while, and how their answers ended."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

LONG: dict[str, Any] = {"model": "tiny", "prompt": "hello", "max_tokens": 200, "ignore_eos": True, "temperature": 1}
"""With one seat, each of its ``n`` choices takes some 50 ms of the tiny model."""


@dataclass(frozen=True)
class Ending:
    """How an answer ended: the code of its error, None for a whole one; ``has_text``: whether a stream had any."""

    status: int
    code: str | None
    has_text: bool = False
    retry_after: str | None = None


class Asked:
    """A request that was sent, whole, when this is made. Its answer waits until it is read."""

    def __init__(self, url: str, headers: Mapping[str, str] | None = None, **more: object) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=120)
        self._is_streamed = bool(more.get("stream"))
        self._answer: http.client.HTTPResponse | None = None
        body = json.dumps(LONG | more)
        sent = {"content-type": "application/json", **(headers or {})}
        self._connection.request("POST", "/v1/completions", body, sent)

    def head(self) -> http.client.HTTPResponse:
        """Wait for the first bytes: of a stream, they come when the engine has taken the request."""
        if self._answer is None:
            self._answer = self._connection.getresponse()
        return self._answer

    def ending(self) -> Ending:
        """Read the answer to its end."""
        answer = self.head()
        retry_after = answer.getheader("retry-after")
        try:
            content = answer.read()
        finally:
            self._connection.close()
        if not self._is_streamed or answer.status != 200:
            code = json.loads(content).get("error", {}).get("code")
            return Ending(answer.status, code, retry_after=retry_after)
        events = [line.removeprefix(b"data: ") for line in content.splitlines() if line.startswith(b"data: ")]
        code = None if events[-1] == b"[DONE]" else json.loads(events[-1])["error"]["code"]
        return Ending(200, code, has_text=any(b"choices" in event for event in events), retry_after=retry_after)


def ask(url: str, headers: Mapping[str, str] | None = None, **more: object) -> Ending:
    """Ask for a completion, and read the answer to its end."""
    return Asked(url, headers, **more).ending()


def ask_often(pool: ThreadPoolExecutor, count: int, url: str, **more: object) -> list[Future[Ending]]:
    """The same request several times, at the same time."""
    return [pool.submit(Asked(url, None, **more).ending) for _ in range(count)]


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = 30) -> float:
    """Wait for something, for some time at most. Returns how long it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < timeout_s, f"never: {what}"
        time.sleep(0.005)
    return time.monotonic() - began
