from __future__ import annotations

import pytest

from lepton_ai.loadgen.failures import MalformedAnswer
from lepton_ai.loadgen.http_parser import ResponseParser

CHUNKED = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nX-A: 1\r\nx-a:2 \r\n\r\n"
    b"5\r\nhello\r\n00A;name=value\r\n, my world\r\n1 \r\n!\r\n0\r\nTrailer: x\r\n\r\n"
)
LENGTH = b"HTTP/1.1 404 Not Found\r\nContent-Length: 6\r\nConnection: Close\r\n\r\nabsent"


def parse(*pieces: bytes) -> tuple[ResponseParser, bytes]:
    parser = ResponseParser()
    return parser, b"".join(parser.feed(piece) for piece in pieces)


@pytest.mark.parametrize("cut", range(len(CHUNKED) + 1))
def test_chunks_cut_anywhere(cut: int) -> None:
    parser, body = parse(CHUNKED[:cut], CHUNKED[cut:])
    assert body == b"hello, my world!"
    assert parser.is_complete and parser.status == 200 and parser.keeps_alive
    assert parser.headers["content-type"] == "text/event-stream" and parser.headers["x-a"] == "1, 2"


def test_chunks_byte_by_byte() -> None:
    parser = ResponseParser()
    body = b""
    for index in range(len(CHUNKED)):
        assert not parser.is_complete
        body += parser.feed(CHUNKED[index : index + 1])
    assert parser.is_complete and body == b"hello, my world!"


def test_what_is_there_of_a_chunk_is_given_at_once() -> None:
    parser, body = parse(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"a\r\n01234")
    assert body == b"01234" and not parser.is_complete
    assert parser.feed(b"56789\r") == b"56789" and parser.feed(b"\n0\r\n\r\n") == b"" and parser.is_complete


@pytest.mark.parametrize("cut", range(len(LENGTH) + 1))
def test_a_length(cut: int) -> None:
    parser, body = parse(LENGTH[:cut], LENGTH[cut:])
    assert (parser.status, body, parser.is_complete, parser.keeps_alive) == (404, b"absent", True, False)


@pytest.mark.parametrize("head", [b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n"])
def test_no_body(head: bytes) -> None:
    parser, body = parse(head)
    assert parser.is_complete and body == b"" and parser.keeps_alive


def test_a_body_that_the_end_ends() -> None:
    parser, body = parse(b"HTTP/1.0 200 OK\r\n\r\nsome", b" text")
    assert body == b"some text" and not parser.is_complete and not parser.keeps_alive
    assert parser.end() and parser.is_complete


@pytest.mark.parametrize("size", [0, 20, len(CHUNKED) - 1, len(LENGTH) - 1])
def test_an_end_too_early(size: int) -> None:
    parser, _ = parse((LENGTH if size == len(LENGTH) - 1 else CHUNKED)[:size])
    assert not parser.end() and parser.has_begun == (size > 0)


def test_interim_answers_are_skipped() -> None:
    parser, body = parse(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nlink: x\r\n\r\n" + LENGTH)
    assert (parser.status, body) == (404, b"absent")


def test_http_10_closes_unless_it_says_so() -> None:
    for line, keeps in ((b"", False), (b"connection: Keep-Alive\r\n", True)):
        assert parse(b"HTTP/1.0 200 OK\r\ncontent-length: 1\r\n" + line + b"\r\nx")[0].keeps_alive is keeps


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH_9\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nspace : 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\na: 1\r\n folded\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1, 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: " + b"9" * 20 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nxy",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\ng\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n-1\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nxy\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"1" * 5000,
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * (65 << 10),
    ],
)
def test_what_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedAnswer, match="HTTP: expected"):
        parse(data)


def test_bytes_behind_an_answer() -> None:
    parser, _ = parse(LENGTH)
    assert parser.feed(b"") == b""
    with pytest.raises(MalformedAnswer, match="got 3 bytes"):
        parser.feed(b"abc")
