"""The client of HTTP, against servers that keep connections, close them, stall and break off."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.loadgen.fake_server import Asked, FakeServer, Reply, serving

from lepton_ai.errors import InvalidRequest
from lepton_ai.loadgen.address import Address
from lepton_ai.loadgen.connection import HttpClient
from lepton_ai.loadgen.failures import CannotConnect, Disconnected, MalformedAnswer, RequestFailed, TimedOut

GET = b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n"


class Taken:
    """A receiver that keeps what came."""

    def __init__(self) -> None:
        self.status = 0
        self.body = b""

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        self.status = status

    def receive(self, body: bytes, now: float) -> None:
        self.body += body


async def fetch(client: HttpClient, timeout_s: float = 10.0) -> tuple[int, bytes]:
    taken = Taken()
    await client.send(GET, taken, timeout_s=timeout_s)
    return taken.status, taken.body


def run(server: FakeServer, count: int = 1, timeout_s: float = 10.0) -> list[tuple[int, bytes]]:
    """So many requests, one after another."""

    async def ask() -> list[tuple[int, bytes]]:
        client = HttpClient(Address.parse(server.url))
        try:
            return [await fetch(client, timeout_s) for _ in range(count)]
        finally:
            await client.close()

    return asyncio.run(ask())


async def ok(asked: Asked, reply: Reply) -> None:
    reply.whole(200, asked.connection)


def test_a_connection_is_used_again() -> None:
    with serving(FakeServer(ok)) as server:
        assert run(server, 3) == [(200, b"1")] * 3 and server.num_connections == 1


def test_requests_at_once_have_connections_of_their_own() -> None:
    async def ask(server: FakeServer) -> list[tuple[int, bytes]]:
        client = HttpClient(Address.parse(server.url))
        first = await asyncio.gather(*(fetch(client) for _ in range(5)))
        assert sorted(first) == [(200, b"%d" % number) for number in range(1, 6)]
        again = await asyncio.gather(*(fetch(client) for _ in range(5)))
        await client.close()
        return again

    with serving(FakeServer(ok)) as server:
        assert len(asyncio.run(ask(server))) == 5 and server.num_connections == 5


def test_a_server_that_closes() -> None:
    async def close(asked: Asked, reply: Reply) -> None:
        reply.writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok")

    with serving(FakeServer(close)) as server:
        assert run(server, 2) == [(200, b"ok")] * 2 and server.num_connections == 2


def test_a_body_until_the_end() -> None:
    async def until_end(asked: Asked, reply: Reply) -> None:
        reply.writer.write(b"HTTP/1.1 200 OK\r\n\r\nall of it")
        reply.drop()

    with serving(FakeServer(until_end)) as server:
        assert run(server, 2) == [(200, b"all of it")] * 2


def test_an_idle_connection_that_was_closed_meanwhile_costs_no_request() -> None:
    async def first_only(asked: Asked, reply: Reply) -> None:
        """Answers the first request of a connection; the second finds it closed."""
        if len([other for other in server.asked if other.connection == asked.connection]) > 1:
            reply.drop()
        else:
            reply.whole(200, "ok")

    with serving(FakeServer(first_only)) as server:
        assert run(server, 3) == [(200, b'"ok"')] * 3
        assert [asked.connection for asked in server.asked] == [1, 1, 2, 2, 3]


def test_a_new_connection_that_is_closed_is_a_failure() -> None:
    async def drop(asked: Asked, reply: Reply) -> None:
        reply.drop()

    with serving(FakeServer(drop)) as server:
        with pytest.raises(Disconnected, match="before it answered") as raised:
            run(server)
        assert raised.value.kind == "disconnected" and len(server.asked) == 1


def test_an_answer_that_breaks_off() -> None:
    async def half(asked: Asked, reply: Reply) -> None:
        reply.writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel")
        reply.drop()

    with serving(FakeServer(half)) as server:
        with pytest.raises(Disconnected, match="before its answer ended") as raised:
            run(server)
        assert raised.value.kind == "broke off" and len(server.asked) == 1


def test_an_answer_that_does_not_come_in_time() -> None:
    async def hang(asked: Asked, reply: Reply) -> None:
        await asyncio.sleep(60)

    with serving(FakeServer(hang)) as server, pytest.raises(TimedOut, match=r"within 0\.05 s"):
        run(server, timeout_s=0.05)


def test_what_is_not_http() -> None:
    async def other(asked: Asked, reply: Reply) -> None:
        reply.writer.write(b"220 mail.example.com\r\n\r\n")

    with serving(FakeServer(other)) as server, pytest.raises(MalformedAnswer, match="status line"):
        run(server)


def test_bytes_that_nobody_asked_for_close_a_connection() -> None:
    answered = threading.Event()

    async def more(asked: Asked, reply: Reply) -> None:
        reply.whole(200, asked.connection)
        await reply.writer.drain()
        await asyncio.to_thread(answered.wait)
        reply.writer.write(b"x")

    async def ask(server: FakeServer) -> None:
        client = HttpClient(Address.parse(server.url))
        assert await fetch(client) == (200, b"1")
        answered.set()
        deadline = time.monotonic() + 10
        while client.num_idle and time.monotonic() < deadline:
            await asyncio.sleep(0.001)
        assert client.num_idle == 0
        await client.close()

    with serving(FakeServer(more)) as server:
        asyncio.run(ask(server))


def test_nobody_listens() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, and nobody accepts
        address = Address.parse(f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(CannotConnect) as raised:
            asyncio.run(fetch(HttpClient(address)))
    assert raised.value.kind == "cannot connect" and address.url in raised.value.message


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate of 127.0.0.1, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    more = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    try:
        subprocess.run([*command.split(), *more], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("needs the command openssl")
    return cert, key


def test_tls(certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    cert, key = certificate
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    with serving(FakeServer(ok), context) as server:
        monkeypatch.setenv("SSL_CERT_FILE", str(cert))
        assert server.url.startswith("https:") and run(server, 2) == [(200, b"1")] * 2
        monkeypatch.setenv("SSL_CERT_FILE", "/nonexistent")
        with pytest.raises(CannotConnect, match="its certificate is not trusted"):
            run(server)


@pytest.mark.parametrize(
    ("url", "authority", "port", "prefix", "shown"),
    [
        ("http://127.0.0.1:8000", "127.0.0.1:8000", 8000, "", "http://127.0.0.1:8000"),
        ("http://127.0.0.1:8000/v1", "127.0.0.1:8000", 8000, "", "http://127.0.0.1:8000"),
        ("http://a.example/proxy/v1/", "a.example", 80, "/proxy", "http://a.example/proxy"),
        ("https://a.example:443", "a.example", 443, "", "https://a.example"),
        ("http://[::1]:9/", "[::1]:9", 9, "", "http://[::1]:9"),
    ],
)
def test_addresses(url: str, authority: str, port: int, prefix: str, shown: str) -> None:
    address = Address.parse(url)
    assert (address.authority, address.port, address.prefix, address.url) == (authority, port, prefix, shown)
    assert (address.ssl_context() is None) == (not url.startswith("https"))


@pytest.mark.parametrize(
    "url",
    ["127.0.0.1:8000", "ftp://a", "http://", "http://a:x", "http://a?b", "http://a#b", "http://a/ b", "http://é/"],
)
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(InvalidRequest, match="url: expected"):
        Address.parse(url)


def test_an_address_has_no_secret() -> None:
    with pytest.raises(InvalidRequest, match="no credentials") as raised:
        Address.parse("http://me:hunter2@a.example")
    assert "hunter2" not in raised.value.message


def test_failures_are_errors_of_ours() -> None:
    error = RequestFailed("it failed", kind="some kind")
    assert (error.status, error.code, error.kind) == (502, "request_failed", "some kind")
