"""The bounds of a connection, on real sockets: an application that answers at once, and clients that misbehave."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest
from starlette.types import Receive, Scope, Send
from tests.serve.raw import Client, exchange, listening

from lepton_ai.serve.http.bounds import Bounds

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\n"
BOUNDS = Bounds(max_head_bytes=8192, max_headers=20, max_connections=4, head_s=0.4, idle_s=0.4, read_s=0.4)


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with what it got: the names of headers and the size of the body. ``/early`` does not read it,
    ``/slow`` waits, ``/long`` sends much.
    """
    body = b""
    if scope["path"] == "/slow":
        await asyncio.sleep(1)
    while scope["path"] != "/early":
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    text = b"%s %d" % (b",".join(name for name, _ in scope["headers"]), len(body))
    if scope["path"] == "/long":
        text = b" " * (64 << 20)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(text))]})
    await send({"type": "http.response.body", "body": text})


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with listening(echo, BOUNDS) as made:
        yield made


def test_requests_follow_each_other(url: str) -> None:
    with Client(url) as client:
        for _ in range(3):
            client.send(POST + b"Content-Length: 3\r\n\r\nabc")
            answer = client.answer()
            assert answer is not None and answer.body == b"host,content-length 3"
        client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n" + GET)
        first, second = client.answer(), client.answer()
        assert first is not None and first.body == b"host,transfer-encoding 5"
        assert second is not None and second.body == b"host 0"


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 21 + b"\r\n",
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 100_000 + b"\r\n",
        b"GET / HTTP/1.1\r\na: " + b"b" * 9000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"a" * 9000 + b": b\r\n\r\n",
        b"GET / HTTP/1.1\r\na: " + b"b" * 200_000,
        b"GET / HTTP/1.1\r\n" + b"".join(b"a%d: %s\r\n" % (i, b"b" * 1000) for i in range(10)),
        b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n",
        b"GET /" + b"a" * 1_000_000,
        b"\r\n" * 10_000,
    ],
    ids=lambda head: f"{head[:20]!r}+{len(head)}",
)
def test_heads_that_are_too_large(url: str, head: bytes) -> None:
    answer = exchange(url, head)
    assert answer is not None and answer.status == 431 and answer.headers["connection"] == "close"
    assert answer.error["code"] == "headers_too_large" and answer.error["type"] == "invalid_request_error"
    assert answer.error["message"] == "headers: expected at most 20 with 8192 bytes in all"


def test_a_head_that_is_just_small_enough(url: str) -> None:
    lines = b"".join(b"a%d: %s\r\n" % (i % 10, b"b" * 400) for i in range(20))
    answer = exchange(url, b"GET / HTTP/1.1\r\n" + lines + b"\r\n")
    assert answer is not None and answer.status == 200


def test_a_head_that_comes_byte_by_byte_runs_out_of_time(url: str) -> None:
    with Client(url) as client:
        started = time.monotonic()
        client.send(b"GET /")
        while not client.has_news():
            client.send(b"a")
            assert time.monotonic() - started < 10
            time.sleep(0.02)
        answer = client.answer()
    assert answer is not None and answer.status == 408 and answer.error["code"] == "request_timeout"


def test_a_connection_that_asks_nothing_is_closed(url: str) -> None:
    with Client(url) as client:
        started = time.monotonic()
        assert client.is_ended()
        assert 0.3 < time.monotonic() - started < 5


def test_an_idle_connection_is_closed(url: str) -> None:
    with Client(url) as client:
        client.send(GET)
        assert client.answer() is not None
        assert client.is_ended()


@pytest.mark.parametrize("trickle", [b"\r\n", b"G"])
def test_a_connection_that_was_idle_is_not_kept_by_a_byte(url: str, trickle: bytes) -> None:
    with Client(url) as client:
        client.send(GET)
        assert client.answer() is not None
        client.send(trickle)
        answer = client.answer()
        assert answer is None if trickle == b"\r\n" else answer is not None and answer.status == 408


def test_a_request_that_takes_long_to_answer_is_not_late(url: str) -> None:
    with Client(url) as client:
        client.send(GET.replace(b"/ ", b"/slow "))
        answer = client.answer()
        assert answer is not None and answer.status == 200


def test_a_body_that_goes_on_after_its_answer_is_cut(url: str) -> None:
    with Client(url) as client:
        client.send(POST.replace(b"/ ", b"/early ") + b"Content-Length: 1000000\r\n\r\n")
        assert client.answer() is not None
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            client.send(b"a")
            time.sleep(0.02)
            if client.has_news():
                break
        assert client.is_ended()


def test_a_body_that_was_not_read_does_not_spoil_the_next_request(url: str) -> None:
    with Client(url) as client:
        client.send(POST.replace(b"/ ", b"/early ") + b"Content-Length: 5\r\n\r\n")
        assert client.answer() is not None
        client.send(b"GET /" + GET)
        answer = client.answer()
        assert answer is not None and answer.body == b"host 0"


@pytest.mark.parametrize(
    "request_",
    [
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\na: b\r\n c\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\na: b\x00c\r\n\r\n",
        b"GET / HTTP/1.1\nHost: x\n\n",
        b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
        b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_what_is_no_request(url: str, request_: bytes) -> None:
    with Client(url) as client:
        client.send(request_)
        answer = client.answer()
        assert answer is not None and answer.status == 400 and answer.error["code"] == "invalid_request"
        assert client.is_ended()


def test_more_than_a_length_says_is_another_request(url: str) -> None:
    with Client(url) as client:
        client.send(POST + b"Content-Length: 3\r\n\r\nabcdef\r\n\r\n")
        answer = client.answer()
        assert answer is not None and answer.body == b"host,content-length 3"
        assert client.is_ended()


@pytest.mark.parametrize(
    "rest",
    [
        b"5;" + b"a" * 600_000,
        b"0\r\n" + b"a: b\r\n" * 100_000,
        b"0\r\na: " + b"b" * 600_000,
        b"0" * 600_000,
        b"G\r\n",
        b"5\r\nabcdefg",
        b"FFFFFFFFFFFFFFFFF\r\n",
    ],
    ids=lambda rest: repr(rest[:10]),
)
def test_chunks_that_are_no_body(url: str, rest: bytes) -> None:
    """The answer to the request is on its way, so that nothing can be said."""
    with Client(url) as client:
        client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n" + rest)
        assert client.answer() is None


def test_trailers_are_no_headers(url: str) -> None:
    trailers = b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nAuthorization: Bearer x\r\n\r\n"
    answer = exchange(url, POST + trailers)
    assert answer is not None and answer.body == b"host,transfer-encoding 1"


def test_many_requests_ahead_are_refused(url: str) -> None:
    """Those that came before are answered."""
    with Client(url) as client:
        client.send(GET.replace(b"/ ", b"/slow ") + GET * 2000)
        num_answers = 0
        while (answer := client.answer()) is not None:
            num_answers += 1
            assert answer.status == 200
        assert num_answers == 17


def test_a_wish_for_another_protocol_is_ignored(url: str) -> None:
    """Or refused, where it cannot be found in time."""
    with Client(url) as client:
        for upgrade in (b"Upgrade: h2c", b"upgrade: websocket", b"UPGRADE:x", b"Upgrade: h2c\r\nUpgrade: x"):
            client.send(POST + b"Connection: Upgrade\r\n" + upgrade + b"\r\nContent-Length: 3\r\n\r\nabc")
            answer = client.answer()
            assert answer is not None and answer.body.endswith(b"content-length 3")
    with Client(url) as client:
        client.send(POST + b"Connection: Upgrade\r\nUpg")
        time.sleep(0.1)
        client.send(b"rade: h2c\r\nContent-Length: 3\r\n\r\nabc")
        answer = client.answer()
        assert answer is not None and answer.status == 400 and "upgrade: expected none" in answer.error["message"]


def test_more_connections_than_there_may_be(url: str) -> None:
    with Client(url) as one, Client(url) as two, Client(url) as three, Client(url) as four:
        for client in (one, two, three, four):
            client.send(GET.replace(b"/ ", b"/slow "))
        answer = exchange(url, GET)
        assert answer is not None and answer.status == 503 and answer.error["code"] == "too_many_connections"
        assert answer.headers["connection"] == "close" and answer.headers["retry-after"] == "1"
        for client in (one, two, three, four):
            answered = client.answer()
            assert answered is not None and answered.status == 200
    for _ in range(500):
        again = exchange(url, GET)
        assert again is not None
        if again.status == 200:
            break
        time.sleep(0.01)
    else:
        raise AssertionError("connections that are closed still count")


def test_an_answer_that_nobody_reads_is_given_up(url: str) -> None:
    with Client(url, receive_bytes=4096) as client:
        client.send(GET.replace(b"/ ", b"/long "))
        time.sleep(2)
        assert client.read_to_the_end() < 64 << 20


def test_an_answer_that_is_read_slowly_comes(url: str) -> None:
    with Client(url, receive_bytes=1 << 20) as client:
        client.send(GET.replace(b"/ ", b"/long "))
        assert client.read_to_the_end(pause_s=0.001, stop_at=64 << 20) >= 64 << 20
