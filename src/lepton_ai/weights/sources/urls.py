"""URLs of indexes: credentials taken out of them, and kept out of everything that prints."""

from __future__ import annotations

import base64
import netrc
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit
from urllib.request import url2pathname

from lepton_ai.errors import InvalidRequest

_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user name and a password. Neither prints: a token is often given as the user name."""

    username: str = field(repr=False)
    password: str = field(repr=False)

    def basic(self) -> str:
        """The value of an ``Authorization`` header (RFC 7617)."""
        pair = f"{self.username}:{self.password}".encode()
        return "Basic " + base64.b64encode(pair).decode("ascii")


def split_url(url: str, *, param: str) -> tuple[str, Credentials | None]:
    """A configured URL as one without credentials, and the credentials that it held.

    Raises InvalidRequest, which never quotes the URL, for anything but http, https and file with a sane host and port.
    """
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError:
        raise InvalidRequest(f"{param}: expected a URL, got one that does not parse", param=param) from None
    if parts.scheme not in ("http", "https", "file") or (parts.scheme != "file" and not parts.hostname):
        raise InvalidRequest(f"{param}: expected an http, https or file URL, got {mask(url)!r}", param=param)
    netloc = _host(parts) + (f":{port}" if port is not None else "")
    bare = urlunsplit((parts.scheme, netloc, parts.path, parts.query, ""))
    if parts.username is None:
        return bare, None
    return bare, Credentials(unquote(parts.username), unquote(parts.password or ""))


def origin(url: str) -> tuple[str, str, int]:
    """(scheme, host, port): what must be equal for credentials to be sent. The URL has been through split_url."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)


def host_of(url: str) -> str:
    """Host and, if it is written, port: what an error message names."""
    return urlsplit(mask(url)).netloc or "this machine"


def mask(url: str) -> str:
    """A URL as it may be printed: without user, password, fragment and query, where a signed link has its secret."""
    try:
        parts = urlsplit(url.strip())
    except ValueError:
        return "(a malformed URL)"
    if parts.scheme not in ("http", "https", "file"):
        return "(no http or file URL)"  # where its secret stands is anyone's guess: user:password@host has a scheme too
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def local_path(url: str) -> Path | None:
    """The path that a ``file:`` URL of this machine names, or None for any other URL."""
    parts = urlsplit(url)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        return None
    return Path(url2pathname(parts.path))


def _host(parts: SplitResult) -> str:
    host = parts.hostname or ""
    return f"[{host}]" if ":" in host else host


class CredentialStore:
    """Credentials by origin: those written in configured URLs first, then those of the netrc file."""

    def __init__(self, by_origin: Mapping[tuple[str, str, int], Credentials], netrc_path: Path | None = None) -> None:
        self._by_origin = dict(by_origin)
        self._netrc = _read_netrc(netrc_path)

    def find(self, url: str) -> Credentials | None:
        """What to send to this URL, if anything."""
        key = origin(url)
        if (found := self._by_origin.get(key)) is not None or self._netrc is None:
            return found
        entry = self._netrc.authenticators(key[1])
        return Credentials(entry[0], entry[2] or "") if entry else None


def _read_netrc(path: Path | None) -> netrc.netrc | None:
    if path is None or not path.is_file():
        return None
    try:
        return netrc.netrc(str(path))
    except (netrc.NetrcParseError, OSError, UnicodeDecodeError):
        # As pip does: the file serves many programs, and a server that needs it will answer 401, which is reported.
        return None
