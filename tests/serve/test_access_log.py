from __future__ import annotations

import json
import logging
import os
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.serve.raw import exchange
from tests.serve.running import Setup, running

from lepton_ai.errors import InvalidRequest
from lepton_ai.serve import logs
from lepton_ai.serve.access.keys import Key, KeyRing, digest, new_secret
from lepton_ai.serve.access.options import AccessOptions
from lepton_ai.serve.http.access_log import AccessLog

SECRET = new_secret()
KEYS = KeyRing([Key("me", digest(SECRET))])


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_for_each_request(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = AccessLog(str(path))
    with running({}, setup=Setup(AccessOptions(keys=KEYS, cors_origins=("*",)), access_log=log)) as server:
        known = {"authorization": f"Bearer {SECRET}", "x-request-id": "mine"}
        httpx.get(f"{server.url}/v1/models?api_key=hidden", headers=known)
        httpx.post(f"{server.url}/v1/completions", headers=known, json={"model": "none", "prompt": "x"})
        httpx.get(f"{server.url}/v1/models")
        asks = {"origin": "https://a.example", "access-control-request-method": "POST"}
        httpx.options(f"{server.url}/v1/models", headers=asks)
    log.close()
    first, second, third, fourth = lines_of(path)
    assert path.stat().st_mode & 0o777 == 0o600
    at, duration = datetime.fromisoformat(first.pop("time")), first.pop("duration_ms")
    assert abs(at.timestamp() - time.time()) < 60 and 0 < duration < 10_000
    assert first == {
        "request_id": "mine",
        "client": "127.0.0.1",
        "key": "me",
        "method": "GET",
        "path": "/v1/models",
        "status": 200,
        "is_complete": True,
        "model": None,
        "stream": None,
        "prompt_tokens": 0,
        "completion_tokens": 0,
    }
    assert (second["status"], second["model"]) == (404, None)
    assert (third["status"], third["key"]) == (401, None) and third["request_id"].startswith("req-")
    assert (fourth["method"], fourth["status"], fourth["key"]) == ("OPTIONS", 200, None)
    assert "hidden" not in path.read_text() and SECRET not in path.read_text()


def test_nothing_can_forge_a_line(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = AccessLog(str(path))
    forged = b'%0a{"status":200}%0d%1b[2J%e2%80%a8%c2%85'
    with running({}, setup=Setup(access_log=log)) as server:
        for id_ in (b"a\tb", b"\xc3\xa9", b"a" * 129, b'x"} {"y":"', b""):
            exchange(server.url, b"GET /x" + forged + b" HTTP/1.1\r\nHost: x\r\nX-Request-Id: " + id_ + b"\r\n\r\n")
    log.close()
    text = path.read_bytes()
    assert text.isascii() and set(text) & set(range(32)) == {10} and text.count(b"\n") == 5
    ids = [line["request_id"] for line in lines_of(path)]
    assert ids[3] == 'x"} {"y":"' and all(id_.startswith("req-") for i, id_ in enumerate(ids) if i != 3)
    assert {line["path"] for line in lines_of(path)} == {'/x\n{"status":200}\r\x1b[2J\u2028\x85'}


def test_a_long_path_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = AccessLog(str(path))
    with running({}, setup=Setup(access_log=log)) as server:
        httpx.get(f"{server.url}/{'a' * 9000}")
    log.close()
    assert lines_of(path)[0]["path"] == "/" + "a" * 255


def test_lines_that_find_no_room_are_counted(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    log = AccessLog(str(pipe), max_waiting=3)
    os.set_blocking(reader, True)
    long = "x" * 100_000  # more than a pipe takes: the writer stands still with it
    started = time.monotonic()
    for i in range(50):
        log.write({"i": i, "text": long})
    assert time.monotonic() - started < 5
    with os.fdopen(reader) as file:
        lines: list[dict[str, Any]] = []

        def read() -> None:
            lines.extend(json.loads(line) for line in file)

        thread = threading.Thread(target=read)
        thread.start()
        while not lines:
            time.sleep(0.01)
        while log.is_behind:
            time.sleep(0.01)
        log.write({"i": 50})
        log.close()
        thread.join(20)
    assert not thread.is_alive()
    written = [line["i"] for line in lines]
    assert written == sorted(written) and written[-1] == 50 and len(written) < 51
    assert sum(line.get("dropped", 0) for line in lines) == 51 - len(written)


def test_the_file_is_opened_again_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = AccessLog(str(path))
    log.write({"i": 0})
    while log.is_behind or not path.read_text():
        time.sleep(0.01)
    path.rename(tmp_path / "old.log")
    log.reopen()
    log.write({"i": 1})
    log.close()
    assert lines_of(tmp_path / "old.log") == [{"i": 0}] and lines_of(path) == [{"i": 1}]


def test_a_disk_that_is_full_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    log = AccessLog("/dev/full")
    for i in range(3):
        log.write({"i": i})
        while log.is_behind:
            time.sleep(0.001)
    log.close()
    assert {record.getMessage() for record in caplog.records} == {
        "the access log cannot be written: [Errno 28] No space left on device"
    }


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"access_log: .*: No such file or directory"):
        AccessLog(str(tmp_path / "none" / "access.log"))


def test_an_exception_is_logged_without_what_it_says() -> None:
    try:
        try:
            raise ValueError("a secret prompt")
        except ValueError as error:
            raise KeyError("the same secret prompt") from error
    except KeyError as error:
        info = (KeyError, error, error.__traceback__)
    record = logging.LogRecord("lepton_ai.serve", logging.ERROR, "x", 1, "failed\nnot a line", (), info)
    text = logs.LineFormatter().format(record)
    assert "secret prompt" not in text.replace('KeyError("the same secret prompt")', "")
    assert "builtins.KeyError" in text and "test_access_log.py" in text and "failed\ufffdnot a line" in text
