from __future__ import annotations

import ssl
from pathlib import Path

import httpx
import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from tests.serve.running import Setup, running

from lepton_ai.errors import InvalidRequest
from lepton_ai.serve.access.options import AccessOptions
from lepton_ai.serve.access.tls import Tls


def issue(authority: trustme.CA, folder: Path, name: str = "127.0.0.1") -> tuple[Path, Path]:
    made = authority.issue_cert(name)
    certificate, key = folder / "cert.pem", folder / "key.pem"
    certificate.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
    key.write_bytes(made.private_key_pem.bytes())
    return certificate, key


def trusting(authority: trustme.CA, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


def test_https(tmp_path: Path) -> None:
    authority = trustme.CA()
    tls = Tls(*issue(authority, tmp_path))
    with running({}, setup=Setup(AccessOptions(tls=tls))) as server:
        assert server.url.startswith("https://")
        for version in (None, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            answer = httpx.get(f"{server.url}/v1/models", verify=trusting(authority, version))
            assert answer.status_code == 200
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            httpx.get(server.url)
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.get(server.url.replace("https", "http"))
    assert tls.context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_certificates_are_renewed_while_the_server_runs(tmp_path: Path) -> None:
    old, new = trustme.CA(), trustme.CA()
    tls = Tls(*issue(old, tmp_path))
    with running({}, setup=Setup(AccessOptions(tls=tls))) as server, httpx.Client(verify=trusting(old)) as kept:
        url = f"{server.url}/health"
        assert kept.get(url).status_code == 200
        certificate, _ = issue(new, tmp_path)
        tls.reload()
        assert httpx.get(url, verify=trusting(new)).status_code == 200
        with pytest.raises(httpx.ConnectError):
            httpx.get(url, verify=trusting(old))
        assert kept.get(url).status_code == 200
        certificate.write_text("broken")
        with pytest.raises(InvalidRequest):
            tls.reload()
        assert httpx.get(url, verify=trusting(new)).status_code == 200


def test_files_that_are_not_as_they_should_be(tmp_path: Path) -> None:
    certificate, key = issue(trustme.CA(), tmp_path)
    (tmp_path / "other").mkdir()
    _, other_key = issue(trustme.CA(), tmp_path / "other")
    junk, locked = tmp_path / "junk.pem", tmp_path / "locked.pem"
    junk.write_bytes(b"-----BEGIN CERTIFICATE-----\nnone\n")
    secret = load_pem_private_key(key.read_bytes(), None)
    locked.write_bytes(
        secret.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, BestAvailableEncryption(b"x"))
    )
    for files, message in (
        ((tmp_path / "none.pem", key), "tls_cert: .*none.pem: No such file or directory"),
        ((certificate, tmp_path), "tls_key: .*: Is a directory"),
        ((certificate, other_key), "tls_key: expected the key of the certificate, got"),
        ((junk, key), "tls_key: expected a certificate and its key in PEM, without a password"),
        ((certificate, junk), "tls_key: expected a certificate and its key in PEM"),
        ((certificate, locked), "tls_key: expected a certificate and its key in PEM, without a password"),
        ((key, key), "tls_key: expected a certificate and its key in PEM"),
    ):
        with pytest.raises(InvalidRequest, match=message):
            Tls(*files)
