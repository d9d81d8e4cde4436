from __future__ import annotations

import http.client
import socket
import ssl
import urllib.request
from pathlib import Path
from urllib.error import URLError

import pytest
from tests.weights.sources.conftest import World
from tests.weights.sources.fake_index import Fault, serve

from lepton_ai.errors import DownloadFailed, InvalidRequest
from lepton_ai.weights.sources.transport import Backoff, TransferError, _Redirects
from lepton_ai.weights.sources.urls import Credentials, CredentialStore, origin

PAGE = "/simple/tiny/"


def _follow(source: str, target: str) -> urllib.request.Request | None:
    handler = _Redirects(CredentialStore({origin("https://two/"): Credentials("u", "p")}))
    request = urllib.request.Request(source, headers={"Range": "bytes=5-"})
    request.add_unredirected_header("Authorization", "Basic b25l")
    with open("/dev/null", "rb") as nothing:
        return handler.redirect_request(request, nothing, 302, "Found", http.client.HTTPMessage(), target)


@pytest.mark.parametrize("target", ["http://one/x", "ftp://one/x", "file:///etc/passwd", "data:,x"])
def test_a_redirect_from_https_to_anything_else_is_refused(target: str) -> None:
    with pytest.raises(TransferError, match=r"one redirects from https to .* refused"):
        _follow("https://one/x", target)


def test_a_redirect_carries_the_range_and_not_the_credentials() -> None:
    request = _follow("https://one/x", "https://evil:pw@three/x")
    assert request is not None
    assert request.full_url == "https://three/x"
    assert request.get_header("Range") == "bytes=5-"
    assert request.get_header("Authorization") is None


def test_a_redirect_to_a_configured_host_gets_its_own_credentials() -> None:
    request = _follow("https://one/x", "https://two/x")
    assert request is not None
    assert request.get_header("Authorization") == Credentials("u", "p").basic()


def test_credentials_do_not_follow_a_redirect_to_another_origin(world: World) -> None:
    with serve() as other:
        store = CredentialStore({origin(world.index.url): Credentials("u", "p")})
        world.index.faults[PAGE] = [Fault(status=302, location=f"{other.url}/simple/tiny/")]
        with pytest.raises(TransferError, match="404"):
            world.transport(world.config(credentials=store)).open(f"{world.index.url}{PAGE}")
    assert world.index.requests[0][1]["Authorization"] == Credentials("u", "p").basic()
    assert "Authorization" not in other.requests[0][1]


def test_a_redirect_loop_ends(world: World) -> None:
    world.index.faults[PAGE] = [Fault(status=302, location=PAGE)] * 20
    with pytest.raises(TransferError, match="302"):
        world.transport().open(f"{world.index.url}{PAGE}")


@pytest.mark.parametrize(
    ("status", "is_transient"), [(400, False), (401, False), (404, False), (408, True), (429, True), (503, True)]
)
def test_which_statuses_are_worth_another_attempt(world: World, status: int, is_transient: bool) -> None:
    world.index.faults[f"{PAGE}?token=hunter2"] = [Fault(status=status, retry_after="7")]
    with pytest.raises(TransferError) as caught:
        world.transport().open(f"{world.index.url}{PAGE}?token=hunter2")
    assert (caught.value.status, caught.value.is_transient, caught.value.retry_after_s) == (status, is_transient, 7)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,hello"])
def test_other_schemes_are_not_opened(world: World, url: str) -> None:
    with pytest.raises(TransferError):
        world.transport().open(url)


def test_an_unreachable_host_is_named(world: World) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(
            TransferError, match=rf"127\.0\.0\.1:{port} cannot be reached: .*LEPTON_INDEX_URL"
        ) as caught:
            world.transport().open(f"http://127.0.0.1:{port}/simple/")
    assert caught.value.is_unreachable


def _explain(world: World, monkeypatch: pytest.MonkeyPatch, error: Exception) -> TransferError:
    transport = world.transport()

    def fail(*args: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(transport._opener, "open", fail)
    with pytest.raises(TransferError) as caught:
        transport.open("https://host/x")
    return caught.value


def test_connection_errors_are_explained(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    untrusted = ssl.SSLCertVerificationError(1, "x")
    untrusted.verify_message = "self-signed certificate"
    found = _explain(world, monkeypatch, URLError(untrusted))
    assert not found.is_transient
    assert "self-signed certificate" in str(found) and "SSL_CERT_FILE" in str(found)
    found = _explain(world, monkeypatch, URLError(socket.gaierror(-2, "Name or service not known")))
    assert found.is_transient and "address was not found (Name or service not known)" in str(found)
    assert "host cannot be reached: timed out" in str(_explain(world, monkeypatch, TimeoutError()))
    assert "without" in str(_explain(world, monkeypatch, http.client.RemoteDisconnected("closed without response")))


def test_a_ca_file_that_is_missing_is_an_error(world: World, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="cert"):
        world.transport(world.config(cert=str(tmp_path / "none.pem")))


def test_backoff_doubles_and_ends() -> None:
    pauses: list[float] = []
    backoff, error = Backoff(3, pauses.append), TransferError("busy", is_transient=True)
    for _ in range(3):
        backoff.pause(error)
    with pytest.raises(DownloadFailed, match="busy"):
        backoff.pause(error)
    assert pauses == [0.5, 1.0, 2.0]


def test_backoff_starts_over_after_progress_and_obeys_the_server_within_reason() -> None:
    pauses: list[float] = []
    backoff = Backoff(1, pauses.append)
    backoff.pause(TransferError("busy", is_transient=True, retry_after_s=3))
    backoff.progressed()
    backoff.pause(TransferError("busy", is_transient=True, retry_after_s=86_400))
    assert pauses == [3.0, 30.0]


def test_backoff_tries_a_silent_host_twice_only() -> None:
    pauses: list[float] = []
    backoff = Backoff(5, pauses.append)
    offline = TransferError("offline", is_transient=True, is_unreachable=True)
    backoff.pause(offline)
    with pytest.raises(DownloadFailed, match="offline"):
        backoff.pause(offline)
    assert pauses == [0.5]
