"""``lepton serve`` as it is run: what it writes down, and what it reads again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from tests.engine.tiny_gguf import tiny_gguf
from tests.serve.process import ServerProcess, serving
from tests.serve.raw import Client, exchange
from tests.serve.test_tls import issue, trusting

from lepton_ai.serve.access.key_file import write_keys
from lepton_ai.serve.access.keys import Key, digest, new_secret

SECRET, WRONG = new_secret(), new_secret()
PROMPT = "PROMPT-SECRET"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gguf(tmp_path_factory.mktemp("models") / "tiny.gguf")


@pytest.fixture(scope="module")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("server")
    write_keys(folder / "keys.json", [Key("me", digest(SECRET))])
    arguments = [str(model), "--api-keys", str(folder / "keys.json"), "--access-log", "-", "--max-body", "64KiB"]
    with serving([*arguments, "--threads", "1"], home=folder) as made:
        yield made


def failing_requests(url: str) -> list[tuple[int | None, Callable[[], httpx.Response]]]:
    """Requests that go wrong, each with a key and a prompt in it, and the status of each; None where there is none."""
    known = {"authorization": f"Bearer {SECRET}"}

    def chat(
        prompt: str, headers: dict[str, str] = known, more: dict[str, Any] | None = None
    ) -> Callable[[], httpx.Response]:
        body = {"model": "tiny", "messages": [{"role": "user", "content": f"{prompt} {PROMPT}"}], "max_tokens": 3}
        return lambda: httpx.post(f"{url}/v1/chat/completions", headers=headers, json=body | (more or {}))

    def post(content: bytes, path: str = "/v1/chat/completions", **headers: str) -> Callable[[], httpx.Response]:
        kind = {"content-type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
        return lambda: httpx.post(f"{url}{path}", headers=known | kind, content=content)

    text = PROMPT.encode()
    return [
        (200, chat("good")),
        (400, post(b'{"model": "tiny", "messages": [' + text)),
        (400, post(b'{"model": "tiny", "messages": "' + text + b'"}')),
        (400, post(b'{"model": "tiny", "messages": [{"role": 5, "content": "' + text + b'"}]}')),
        (400, post(b"[" * 50_000 + text)),
        (400, post(b"\xff" + text)),
        (400, chat("unknown", more={PROMPT: PROMPT})),
        (400, chat("bad", more={"temperature": PROMPT})),
        (400, chat("long " * 1000)),
        (400, chat("role", more={"messages": [{"role": PROMPT, "name": PROMPT}] * 400})),
        (404, chat("none", more={"model": PROMPT})),
        (401, chat("stranger", headers={"authorization": f"Bearer {WRONG}"})),
        (401, chat("stranger", headers={"authorization": SECRET})),
        (401, lambda: httpx.get(f"{url}/v1/models", params={"api_key": SECRET, "prompt": PROMPT})),
        (403, lambda: httpx.get(f"{url}/metrics", headers=known | {"cookie": f"{PROMPT}={SECRET}"})),
        (404, lambda: httpx.get(f"{url}/nothing", headers=known, params={"key": SECRET})),
        (413, post(text * 10_000)),
        (415, post(text, content_type="text/plain")),
        (415, post(text, content_encoding="gzip")),
        (500, chat("EXPLODE")),
        (200, chat("FORGET")),
        (None, chat("LATER", more={"stream": True})),
    ]


def test_no_key_and_no_prompt_is_written_down(server: ServerProcess) -> None:
    requests = failing_requests(server.url)
    for status, request in requests:
        try:
            assert request().status_code == status
        except httpx.RemoteProtocolError:
            assert status is None
    for raw in (
        f"GET / HTTP/1.1\r\nHost: x\r\nAuthorization : Bearer {SECRET}\r\n\r\n",
        f"GET /{PROMPT}\r\nAuthorization: Bearer {SECRET}\r\n" + f"x: {SECRET}\r\n" * 1000 + "\r\n",
    ):
        answer = exchange(server.url, raw.encode())
        assert answer is not None and answer.status in (400, 431)
    with Client(server.url) as leaving:
        leaving.send(
            f"POST /{PROMPT} HTTP/1.1\r\nAuthorization: Bearer {SECRET}\r\nContent-Length: 99\r\n\r\n".encode()
        )
        leaving.send(PROMPT.encode())
    httpx.get(f"{server.url}/health", headers={"x-request-id": "the-last"})
    server.wait_for("the-last")
    written = server.written
    lines = [json.loads(line) for line in written.splitlines() if line.startswith('{"time"')]
    assert len(lines) >= len(requests) + 1
    assert {line["status"] for line in lines} >= {200, 400, 401, 403, 404, 413, 415, 500}
    assert {line["key"] for line in lines} == {"me", None}
    assert "builtins.RuntimeError" in written and "chat_prompt" in written, "the failure is not there to be found"
    assert "event loop: Task exception was never retrieved" in written
    for secret in (SECRET, WRONG, digest(SECRET), digest(WRONG), PROMPT):
        assert secret not in written.replace(f'"path": "/{PROMPT}"', "")
        assert secret[10:30] not in written.replace(f'"path": "/{PROMPT}"', "")


def test_keys_are_read_again(model: Path, tmp_path: Path) -> None:
    keys, log = tmp_path / "keys.json", tmp_path / "access.log"
    authority, renewed = trustme.CA(), trustme.CA()
    certificate, key = issue(authority, tmp_path)
    write_keys(keys, [Key("old", digest(SECRET))])
    files = ["--tls-cert", str(certificate), "--tls-key", str(key), "--access-log", str(log)]
    with serving([str(model), "--api-keys", str(keys), *files, "--threads", "1"], home=tmp_path) as server:
        assert server.url.startswith("https://")

        def status(secret: str, ca: trustme.CA) -> int:
            headers = {"authorization": f"Bearer {secret}"}
            return httpx.get(f"{server.url}/v1/models", headers=headers, verify=trusting(ca)).status_code

        assert (status(SECRET, authority), status(WRONG, authority)) == (200, 401)
        write_keys(keys, [Key("new", digest(WRONG))])
        server.wait_for("keys are reloaded")
        assert (status(SECRET, authority), status(WRONG, authority)) == (401, 200)
        issue(renewed, tmp_path)
        log.rename(tmp_path / "old.log")
        server.hang_up()
        server.wait_for("certificates are reloaded")
        assert status(WRONG, renewed) == 200
        certificate.write_text("broken")
        keys.write_text("broken")
        server.hang_up()
        server.wait_for("certificates are not reloaded, those from before stay")
        server.wait_for("keys are not reloaded, the 1 from before stay")
        assert status(WRONG, renewed) == 200
        server.stop()
    assert len((tmp_path / "old.log").read_text().splitlines()) == 4
    assert len(log.read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "0.0.0.0", "--no-auth"], "host: expected an address of this machine alone without keys"),
        (["--no-auth", "--api-keys", "keys.json"], "--no-auth: expected no keys beside it"),
        (["--api-keys", "none.json"], "none.json: expected a file of keys: No such file"),
        ([], "expected LEPTON_API_KEY, --api-keys or --no-auth"),
        (["--no-auth", "--tls-cert", "x.pem"], "--tls-cert: expected --tls-key beside it"),
        (["--no-auth", "--tls-cert", "none.pem", "--tls-key", "none.pem"], "tls_cert: none.pem: No such file"),
        (["--no-auth", "--cors-origin", "example.com"], "cors_origin: expected * or one such as"),
        (["--no-auth", "--max-body", "many"], "--max-body: expected a number of bytes"),
    ],
)
def test_what_is_wrong_is_said_before_a_model_is_loaded(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    from lepton_ai.cli.main import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LEPTON_API_KEY", raising=False)
    assert main(["serve", "a-model-that-is-not-there", *arguments, "--json"]) == 2
    assert message in json.loads(capsys.readouterr().out)["error"]["message"]
