"""scripts/soak_serve.py: that it would see what it looks for."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from rich.progress import Progress
from scripts import soak_serve as script
from scripts.soak.answers import Ending, Wrong, breaches_of, read
from scripts.soak.client import Answer, Client, Leave, Lost
from scripts.soak.load import Ends, Report, differences
from scripts.soak.requests import Refusal, Spec, Writer
from scripts.soak.setup import Setup

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
FIELDS: dict[str, Any] = {"model": "m", "prompt": "a", "stop": ["X"]}
STREAMED = FIELDS | {"stream": True}


def spec(fields: dict[str, Any]) -> Spec:
    return Spec(("completion",), "/v1/completions", json.dumps(fields).encode(), fields)


def piece(text: str, reason: str | None = None) -> str:
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": reason}
    return f"data: {json.dumps({'choices': [choice]})}\n\n"


def stream(*events: str) -> Answer:
    return Answer(200, {"content-type": "text/event-stream; charset=utf-8"}, "".join(events).encode())


def whole(text: str, reason: str = "stop", num_choices: int = 1) -> Answer:
    choices = [{"index": i, "text": text, "logprobs": None, "finish_reason": reason} for i in range(num_choices)]
    return Answer(200, {"content-type": "application/json"}, json.dumps({"choices": choices}).encode())


DONE, ERROR = "data: [DONE]\n\n", 'data: {"error": {"code": "engine_died"}}\n\n'


def test_requests_are_those_of_the_seed_and_of_all_shapes() -> None:
    specs = Writer("m", "e", 4).mixed(600)
    assert specs == Writer("m", "e", 4).mixed(600) != Writer("m", "e", 5).mixed(600)
    assert 30 < sum(s.leave is not None for s in specs) < 90 and 10 < sum(s.refusal is not None for s in specs) < 60
    shapes = {shape for s in specs for shape in s.shapes}
    assert shapes >= {"chat", "chat, streamed", "completion", "completion, streamed", "embeddings", "tokenize"}
    assert shapes >= {"n=3", "schema", "logprobs", "stop", "no JSON", "unknown model", "too long", "unknown field"}


def test_a_stream_says_what_a_whole_answer_says() -> None:
    streamed = read(spec(STREAMED), stream(": ping\n\n", piece("a"), piece("b"), piece("", "stop"), DONE))
    assert streamed == read(spec(FIELDS), whole("ab")) and streamed.is_good
    assert streamed != read(spec(FIELDS), whole("ac")) and streamed != read(spec(FIELDS), whole("ab", "length"))
    assert read(spec(STREAMED), stream(piece("a"), ERROR)) == Ending(200, "engine_died")


@pytest.mark.parametrize(
    ("fields", "answer", "message"),
    [
        (STREAMED, stream(piece("a", "stop")), "has ends at"),
        (STREAMED, stream(piece("a", "stop"), DONE, DONE), "has ends at"),
        (STREAMED, stream(piece("a", "stop"), ERROR, DONE), "has ends at"),
        (STREAMED, stream(piece("a", "stop"), DONE, piece("b")), "has ends at"),
        (STREAMED, stream(piece("a", "stop"), DONE[:-1]), "is cut"),
        (STREAMED, stream(piece("a", "stop"), "event: a\n\n", DONE), "more than data"),
        (STREAMED, stream(piece("a", "stop"), piece("b"), DONE), "a choice that has ended"),
        (STREAMED, stream(piece("a"), DONE), "finish_reason None"),
        (STREAMED, stream(DONE), "0 choices"),
        (STREAMED, whole("a"), "content-type application/json"),
        (FIELDS, stream(DONE), "content-type text/event-stream"),
        (FIELDS, whole("a", num_choices=2), "2 choices"),
        (FIELDS, whole("aXb"), "a stop string"),
        (FIELDS, whole("a", "abort"), "finish_reason abort"),
        (FIELDS, Answer(200, {"content-type": "application/json"}, b"{"), "no JSON"),
        (FIELDS | {"logprobs": 1}, whole("a"), "log-probabilities"),
        (STREAMED | {"stream_options": {"include_usage": True}}, stream(piece("a", "stop"), DONE), "a usage"),
    ],
)
def test_what_is_wrong_is_seen(fields: dict[str, Any], answer: Answer, message: str) -> None:
    with pytest.raises(Wrong, match=message):
        read(spec(fields), answer)


def test_what_is_expected_is_compared() -> None:
    good, refused = spec(FIELDS), Spec(("refused",), "/", b"", refusal=Refusal(400, "invalid_request"))
    assert breaches_of(good, Ending(200, None)) == breaches_of(refused, Ending(400, "invalid_request")) == []
    assert breaches_of(good, Ending(200, "engine_died")) and breaches_of(good, Ending(429, "queue_full"))
    assert breaches_of(refused, Ending(200, None)) and breaches_of(refused, Ending(400, "template_error"))
    assert len(differences({0: b"a", 1: b"b", 2: b"c"}, {0: b"a", 1: b"x"}, range(3))) == 2


def test_requests_that_do_not_end_well_are_breaches() -> None:
    ends = Ends([spec(FIELDS)] * 4, {0: Ending(200, None), 1: Ending(500, "internal_error")}, lost=["a"], wrong=["b"])
    assert ends.num_ended == 4 and len(ends.breaches()) == 3
    assert ends.counts() == {"good": 1, "500 internal_error": 1, "lost": 1, "wrong": 1}


def at_server(answers: list[bytes], use: Callable[[Client], Awaitable[object]]) -> list[str]:
    """Use a client of a server that gives these bytes for each request, and then closes. What was stray."""
    stray: list[str] = []

    async def main() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for answer in answers:
                if not await reader.read(1 << 16):
                    break
                writer.write(answer)
                await writer.drain()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        client = Client("127.0.0.1", server.sockets[0].getsockname()[1], stray)
        try:
            await use(client)
            await asyncio.sleep(0.05)  # for what comes and should not
        finally:
            client.close()
            server.close()

    asyncio.run(main())
    return stray


def test_a_client_keeps_its_connection() -> None:
    async def use(client: Client) -> None:
        for _ in range(3):
            assert await client.ask(b"a") == Answer(200, {"content-length": "2"}, b"{}")

    assert at_server([OK] * 3, use) == []


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"", "ended before its answer"),
        (OK[:-1], "ended within its answer"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n", "ended within its answer"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}{}", "no answer of HTTP"),
        (b"SSH-2.0\r\n\r\n", "no answer of HTTP"),
    ],
)
def test_an_answer_that_is_lost_is_noticed(answer: bytes, message: str) -> None:
    async def use(client: Client) -> None:
        with pytest.raises(Lost, match=message):
            await client.ask(b"a")

    at_server([answer], use)


def test_an_answer_that_comes_twice_is_noticed() -> None:
    async def use(client: Client) -> None:
        assert await client.ask(b"a")
        wire = client._wire
        assert wire is not None and wire.transport is not None
        wire.transport.write(b"what has the second answer sent")
        await asyncio.sleep(0.05)

    (said,) = at_server([OK, OK], use)
    assert said.startswith("bytes behind the end of an answer")


@pytest.mark.parametrize("leave", [Leave("sending", 0), Leave("waiting", 0.02), Leave("reading", 1)])
def test_a_client_that_leaves_has_no_answer(leave: Leave) -> None:
    async def use(client: Client) -> None:
        assert await client.ask(b"ab", leave) is None

    assert at_server([OK[:-1], OK], use) == []


@pytest.mark.parametrize("breaches", [[], ["it was lost"]])
def test_a_breach_is_the_exit_status(
    breaches: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def part(setup: Setup) -> Report:
        assert setup.num_requests == 40 and setup.num_alone == 4 and isinstance(setup.progress, Progress)
        return Report("a part", {"requests": 3}, breaches)

    monkeypatch.setattr(script, "PARTS", {"part": part})
    monkeypatch.setattr(sys, "argv", ["soak_serve", "--requests", "40", "--json"])
    assert script.main() == len(breaches)
    written = json.loads(capsys.readouterr().out)
    assert written["passed"] is (not breaches) and written["parts"]["a part"]["breaches"] == breaches
    monkeypatch.setattr(sys, "argv", ["soak_serve", "--requests", "40"])
    assert script.main() == len(breaches)
    shown = capsys.readouterr().out
    assert "requests" in shown and all(breach in shown for breach in breaches)
