"""Answers that come piece by piece."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
from starlette.types import Message, Scope

from lepton_ai.errors import EngineDied
from lepton_ai.serve.http import sse


def run(events: AsyncGenerator[bytes, None], left: asyncio.Event | None = None) -> tuple[list[bytes], int]:
    """The bodies that are sent, and how often the stream was told that its reader has left."""
    bodies: list[bytes] = []
    num_leaves = 0

    def leave() -> None:
        nonlocal num_leaves
        num_leaves += 1

    async def receive() -> Message:
        await (left or asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            bodies.append(message["body"])
            assert message["more_body"] is (message["body"] != b"")

    async def main() -> None:
        await asyncio.wait_for(sse.EventStream(events, leave)({"type": "http"}, receive, send), 30)

    asyncio.run(main())
    return bodies, num_leaves


def test_events_are_sent_as_they_are() -> None:
    async def events() -> AsyncGenerator[bytes, None]:
        yield b"data: 1\n\n"
        await asyncio.sleep(0)
        yield b"data: 2\n\n"

    assert run(events()) == ([b"data: 1\n\n", b"data: 2\n\n", b""], 0)


def test_a_comment_is_sent_while_nothing_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "_PING_S", 0.02)

    async def events() -> AsyncGenerator[bytes, None]:
        await asyncio.sleep(0.5)
        yield b"data: 1\n\n"

    bodies, _ = run(events())
    assert bodies[-2:] == [b"data: 1\n\n", b""] and set(bodies[:-2]) == {b": ping\n\n"}


def test_an_error_is_the_last_event() -> None:
    async def events() -> AsyncGenerator[bytes, None]:
        yield b"data: 1\n\n"
        raise EngineDied("gone")

    bodies, _ = run(events())
    assert bodies[0] == b"data: 1\n\n" and bodies[2:] == [b""]
    assert bodies[1].startswith(b'data: {"error":') and b'"engine_died"' in bodies[1]


def test_who_leaves_is_told_of_once() -> None:
    left = asyncio.Event()

    async def events() -> AsyncGenerator[bytes, None]:
        yield b"data: 1\n\n"
        left.set()
        await asyncio.sleep(0.05)

    bodies, num_leaves = run(events(), left)
    assert bodies == [b"data: 1\n\n", b""] and num_leaves == 1


def test_pieces_go_by_their_own_way() -> None:
    async def events() -> AsyncGenerator[bytes, None]:
        yield b"data: 1\n\n"
        raise EngineDied("gone")

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    whole: list[Message] = []
    pieces: list[Message] = []

    async def send(message: Message) -> None:
        whole.append(message)

    async def send_piece(message: Message) -> None:
        pieces.append(message)

    async def main() -> None:
        scope: Scope = {"type": "http", "state": {}}
        sse.send_pieces_by(send_piece, scope)
        await asyncio.wait_for(sse.EventStream(events(), lambda: None)(scope, receive, send), 30)

    asyncio.run(main())
    assert [message["type"] for message in whole] == ["http.response.start", "http.response.body"]
    assert whole[1]["body"] == b"" and not whole[1]["more_body"]
    assert [message["body"][:8] for message in pieces] == [b"data: 1\n", b'data: {"']
    assert all(message["more_body"] for message in pieces)
