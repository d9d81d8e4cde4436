"""TLS: a certificate and its key, checked before anything else is done, and read again when they have been renewed."""

from __future__ import annotations

import ssl
from pathlib import Path

from lepton_ai.errors import InvalidRequest


class Tls:
    """Certificates of a server, TLS 1.2 or later.

    Raises InvalidRequest for files that are not a certificate, with those that lead to its root, and its key.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._certificate = certificate
        self._key = key
        self.context = self._load()

    def reload(self) -> None:
        """Use what the files hold now, for connections from now on. Raises InvalidRequest, and changes nothing then."""
        self._load()  # elsewhere first: half of it could fail
        self.context.load_cert_chain(self._certificate, self._key, _no_password)

    def _load(self) -> ssl.SSLContext:
        for path, param in ((self._certificate, "tls_cert"), (self._key, "tls_key")):
            try:
                path.read_bytes()
            except OSError as error:
                raise InvalidRequest(f"{param}: {path}: {error.strerror or error}", param=param) from None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(self._certificate, self._key, _no_password)
        except ssl.SSLError as error:
            is_other = error.reason == "KEY_VALUES_MISMATCH"
            expected = (
                "the key of the certificate" if is_other else "a certificate and its key in PEM, without a password"
            )
            raise InvalidRequest(
                f"tls_key: expected {expected}, got {self._certificate} and {self._key}", param="tls_key"
            ) from None
        return context


def _no_password() -> str:
    """Without this, OpenSSL would ask whoever sits at the terminal. It accepts none that is empty."""
    return ""
