"""A server of the interface that does what a test says, in a thread: streams with pauses, errors, broken answers."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


@dataclass
class Asked:
    """A request as it came. ``connection`` numbers the connections."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any
    connection: int


@dataclass
class Reply:
    """Where an answer is written."""

    writer: asyncio.StreamWriter

    def chunk(self, data: bytes) -> None:
        self.writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def event(self, value: object) -> None:
        self.chunk(b"data: " + json.dumps(value).encode() + b"\n\n")

    def text(self, text: str) -> None:
        self.event({"choices": [{"index": 0, "text": text, "finish_reason": None}]})

    def end(self, prompt_tokens: int, output_tokens: int, *, cached_tokens: int = 0) -> None:
        """Finish, usage, [DONE], and the end of the body."""
        self.event({"choices": [{"index": 0, "text": "", "finish_reason": "length"}]})
        details = {"cached_tokens": cached_tokens}
        usage = {"prompt_tokens": prompt_tokens, "completion_tokens": output_tokens, "prompt_tokens_details": details}
        self.event({"choices": [], "usage": usage})
        self.chunk(b"data: [DONE]\n\n")
        self.writer.write(LAST_CHUNK)

    def whole(self, status: int, value: object) -> None:
        body = json.dumps(value).encode()
        head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        self.writer.write(head.encode() + body)

    def error(self, status: int, code: str, message: str = "no") -> None:
        self.whole(status, {"error": {"message": message, "type": "some_error", "param": None, "code": code}})

    def drop(self) -> None:
        """Close the connection with what was written."""
        self.writer.close()


Answer = Callable[[Asked, Reply], Awaitable[None]]


async def answer_all(asked: Asked, reply: Reply) -> None:
    """As many tokens as were asked for, at once."""
    reply.writer.write(HEAD)
    num_tokens = asked.body["max_tokens"]
    for index in range(num_tokens):
        reply.text(f"t{index}")
    prompt = asked.body.get("prompt", "a b c")
    reply.end(len(prompt if isinstance(prompt, list) else prompt.split()), num_tokens)


@dataclass
class FakeServer:
    """``answer`` is for the routes that generate; ``statuses`` are what paths answer in place of what they have."""

    answer: Answer = answer_all
    models: Sequence[str] = ("fake", "other")
    statuses: Mapping[str, int] = field(default_factory=dict)
    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    num_connections: int = 0

    @property
    def generations(self) -> list[Asked]:
        """The requests that generate."""
        return [asked for asked in self.asked if asked.path.startswith("/v1/c")]

    async def be(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.num_connections += 1
        number = self.num_connections
        try:
            while not writer.is_closing():
                asked = await _read(reader, number)
                self.asked.append(asked)
                await self._respond(asked, Reply(writer))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _respond(self, asked: Asked, reply: Reply) -> None:
        others: dict[str, object] = {
            "/v1/models": {"object": "list", "data": [{"id": name} for name in self.models]},
            "/version": {"version": "9.8.7"},
            "/tokenize": {"tokens": [5, 6, 7, 8, 9] * 25, "count": 125},
        }
        if asked.path in self.statuses:
            reply.error(self.statuses[asked.path], "scripted")
        elif asked.path in others:
            reply.whole(200, others[asked.path])
        else:
            await self.answer(asked, reply)


async def _read(reader: asyncio.StreamReader, connection: int) -> Asked:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip("\r\n").split("\r\n")
    method, path, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Asked(method, path, headers, json.loads(body) if body else None, connection)


@contextmanager
def serving(server: FakeServer, tls: ssl.SSLContext | None = None) -> Iterator[FakeServer]:
    """``server`` at work for the length of a ``with`` block."""
    loop = asyncio.new_event_loop()
    started, stopped = threading.Event(), asyncio.Event()

    async def run() -> None:
        listening = await asyncio.start_server(server.be, "127.0.0.1", 0, ssl=tls)
        port = listening.sockets[0].getsockname()[1]
        server.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{port}"
        started.set()
        await stopped.wait()
        listening.close()
        connections = asyncio.all_tasks() - {asyncio.current_task()}
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
    thread.start()
    try:
        assert started.wait(10)
        yield server
    finally:
        loop.call_soon_threadsafe(stopped.set)
        thread.join(10)
        assert not thread.is_alive()
        loop.close()
