"""Hostile requests against a server, and what must hold after each of them.

What has hit servers of this kind, by its public name where it has one, and where it is tried here:

| class | seen as | file |
| --- | --- | --- |
| a count that is multiplied before it is bounded | vLLM `n` (CVE-2026-34756), `best_of` (0.5.0) | `numbers` |
| a negative or huge number that reaches native code | llama.cpp `n_discard` (CVE-2026-21869) | `numbers` |
| a prompt of nothing | vLLM 0.5.4, empty prompts | `numbers` |
| a token id that the vocabulary lacks | vLLM and llama.cpp, prompts of ids and `logit_bias` | `numbers` |
| JSON that two readers read differently, or that is none | llama.cpp #11738, NaN and invalid UTF-8 | `bodies` |
| a body that costs more than its bytes | long headers (CVE-2025-48956), floods of errors | `bodies` |
| a schema or pattern that ends the engine | vLLM #17248, #17313, #19270, CVE-2025-48944; llama.cpp #4492 | `schemas` |
| a schema that takes for ever, or is dropped in silence | nested quantifiers; llama.cpp #19051 | `schemas` |
| a control token in a user's text | CVE-2026-44222, and injected turns | `texts` |
| a chat template as a program | llama-cpp-python CVE-2024-34359, SGLang CVE-2026-5760 | `templates` |
| work on the event loop that others wait for | vLLM tokenizing there (CVE-2025-62426) | `load` |
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx
from tests.serve.running import Running

from lepton_ai.engine.remote.client import RemoteClient

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
MESSAGES = [{"role": "user", "content": "hello"}]
HONEST: dict[str, Any] = {"model": "tiny", "prompt": "hello", "temperature": 0, "max_tokens": 6}
MAX_SECONDS = 10.0
"""For an answer to anything, on a machine that has other work too."""


@dataclass
class Target:
    """A server under attack, and what it answers to an honest request."""

    server: Running
    http: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=60))
    honest: str = ""

    def __post_init__(self) -> None:
        self.honest = self.ask_honestly()

    def post(self, path: str, body: object, headers: Mapping[str, str] | None = None) -> httpx.Response:
        """The answer to ``body``, JSON or the bytes as they are."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        begin = time.monotonic()
        answer = self.http.post(
            self.server.url + path, content=content, headers={"content-type": "application/json", **(headers or {})}
        )
        assert time.monotonic() - begin < MAX_SECONDS, answer
        return answer

    def refused(self, path: str, body: object, *, status: int = 400) -> dict[str, Any]:
        """The error of an answer that must be one, as clients read it: short, and with a name for the field."""
        answer = self.post(path, body)
        assert answer.status_code == status, (answer.status_code, answer.text[:300])
        error = answer.json()["error"]
        assert set(error) == {"message", "type", "param", "code"} and len(answer.content) < 2000, answer.text[:3000]
        return dict(error)

    def ask_honestly(self) -> str:
        """What the model says to an honest request."""
        answer = self.post(COMPLETIONS, HONEST)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["choices"][0]["text"])

    def check(self) -> None:
        """The server serves, its engine's invariants hold, and nothing is left of what was asked."""
        assert self.ask_honestly() == self.honest
        client = self.client
        wait_until(lambda: not client._connection._generations and not client._connection._replies)
        client.check_integrity()
        stats = client.stats()
        assert (stats.num_running, stats.num_waiting, stats.num_paused, stats.kv_blocks_used) == (0, 0, 0, 0)

    @property
    def client(self) -> RemoteClient:
        """Of the engine of the model ``tiny``."""
        assert self.server.service is not None
        return self.server.service.models["tiny"]._llm._client

    def close(self) -> None:
        """Let go of the connection."""
        self.http.close()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.server.url)
        assert parts.hostname and parts.port
        return parts.hostname, parts.port


def wait_until(condition: Any, seconds: float = 30) -> None:
    """Until ``condition()`` holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it does not come true"
        time.sleep(0.005)


class Heartbeat:
    """How long an event loop was kept from anything else, while in a ``with`` block.

    A gap counts as far as this process had the processor in it: what other programs take is not the loop's fault.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.longest_s = 0.0
        self._loop = loop

    def __enter__(self) -> Heartbeat:
        self._task = asyncio.run_coroutine_threadsafe(self._beat(), self._loop)
        return self

    def __exit__(self, *error: object) -> None:
        self._task.cancel()

    async def _beat(self) -> None:
        last, spent = time.perf_counter(), time.process_time()
        while True:
            await asyncio.sleep(0.002)
            now, used = time.perf_counter(), time.process_time()
            self.longest_s = max(self.longest_s, min(now - last, used - spent))
            last, spent = now, used
