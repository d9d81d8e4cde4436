from __future__ import annotations

import base64
from pathlib import Path

import pytest

from lepton_ai.errors import InvalidRequest
from lepton_ai.weights.sources.urls import Credentials, CredentialStore, host_of, local_path, mask, origin, split_url

SECRET = "hunter2"


def test_credentials_are_taken_out_and_decoded() -> None:
    bare, credentials = split_url(f"https://me%40corp:{SECRET}%21@Index.Example:8443/simple/", param="index-url")
    assert bare == "https://index.example:8443/simple/"
    assert credentials == Credentials("me@corp", f"{SECRET}!")
    assert base64.b64decode(credentials.basic().removeprefix("Basic ")) == b"me@corp:hunter2!"


def test_credentials_do_not_print() -> None:
    assert SECRET not in repr(Credentials(SECRET, SECRET))
    assert SECRET not in str(Credentials(SECRET, SECRET))


def test_a_url_without_credentials_is_kept() -> None:
    assert split_url("https://pypi.org/simple", param="x") == ("https://pypi.org/simple", None)
    assert split_url("http://[::1]:8080/simple", param="x") == ("http://[::1]:8080/simple", None)


@pytest.mark.parametrize(
    "url",
    [f"ftp://u:{SECRET}@host/", f"u:{SECRET}@host/simple", f"https://u:{SECRET}@host:port/", "https:///simple", ""],
)
def test_other_urls_are_refused_without_their_secret(url: str) -> None:
    with pytest.raises(InvalidRequest, match="index-url: expected") as caught:
        split_url(url, param="index-url")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        (f"https://u:{SECRET}@host:1/a?token={SECRET}#{SECRET}", "https://host:1/a"),
        (f"https://{SECRET}@host/a", "https://host/a"),
        (f"https://u:{SECRET}@{SECRET}@host/a", "https://host/a"),
        (f"https://[{SECRET}", "(a malformed URL)"),
    ],
)
def test_mask(url: str, masked: str) -> None:
    assert mask(url) == masked
    assert SECRET not in host_of(url)


def test_credentials_go_to_their_origin_only() -> None:
    mine = Credentials("u", "p")
    store = CredentialStore({origin("https://host/simple"): mine})
    assert store.find("https://host:443/other") == mine
    assert store.find("http://host/simple") is None
    assert store.find("https://host:444/simple") is None
    assert store.find("https://evil/simple") is None


def test_netrc_is_second_to_the_url(tmp_path: Path) -> None:
    file = tmp_path / "netrc"
    file.write_text("machine one login a password b\nmachine two login c password d\n")
    store = CredentialStore({origin("https://one/"): Credentials("u", "p")}, file)
    assert store.find("https://one/x") == Credentials("u", "p")
    assert store.find("https://two/x") == Credentials("c", "d")
    assert store.find("https://three/x") is None


def test_a_broken_netrc_is_as_none(tmp_path: Path) -> None:
    file = tmp_path / "netrc"
    file.write_text("machine\nnonsense what")
    assert CredentialStore({}, file).find("https://one/") is None


def test_local_path() -> None:
    assert local_path("file:///opt/a%20b/x.whl") == Path("/opt/a b/x.whl")
    assert local_path("file://localhost/opt") == Path("/opt")
    assert local_path("file://server/share") is None
    assert local_path("https://host/opt") is None
