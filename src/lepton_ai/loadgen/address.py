"""Where a server is."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

from lepton_ai.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Address:
    """A server by its parts. ``prefix`` is what paths begin with, such as "" or "/proxy"."""

    host: str
    port: int
    is_tls: bool
    prefix: str

    @classmethod
    def parse(cls, url: str) -> Address:
        """Of an URL, with or without the ``/v1`` that clients of OpenAI's write. Raises InvalidRequest."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise InvalidRequest(f"url: expected that of a server: {error}", param="url") from None
        if parts.username is not None or parts.password is not None:
            raise InvalidRequest("url: expected no credentials in it; LEPTON_API_KEY has the key", param="url")
        is_plain = url.isascii() and url.isprintable() and " " not in url
        if parts.scheme not in ("http", "https") or not parts.hostname or not is_plain:
            raise InvalidRequest(f"url: expected such as http://127.0.0.1:8000, got {url!r:.80}", param="url")
        if parts.query or parts.fragment:
            raise InvalidRequest(f"url: expected no ? and no #, got {url!r:.80}", param="url")
        is_tls = parts.scheme == "https"
        prefix = parts.path.rstrip("/").removesuffix("/v1")
        return cls(parts.hostname, port or (443 if is_tls else 80), is_tls, prefix)

    @property
    def authority(self) -> str:
        """What the header ``host`` says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.is_tls else 80) else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """As it is written."""
        return f"{'https' if self.is_tls else 'http'}://{self.authority}{self.prefix}"

    def ssl_context(self) -> ssl.SSLContext | None:
        """With the certificates that the system trusts; None without TLS."""
        if not self.is_tls:
            return None
        context = ssl.create_default_context()
        context.set_alpn_protocols(["http/1.1"])
        return context
