"""HTTP as the downloads need it: no other scheme, credentials per origin, every failure typed and masked."""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import time
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import closing
from email.message import Message
from types import TracebackType
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from lepton_ai.errors import DownloadFailed, InvalidRequest
from lepton_ai.version import __version__
from lepton_ai.weights.sources.pip_config import IndexConfig
from lepton_ai.weights.sources.urls import CredentialStore, host_of, mask

_TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
_MAX_PAUSE_S = 30.0


class TransferError(Exception):
    """One attempt failed. ``is_transient``: another may succeed. ``is_unreachable``: the host never answered."""

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        is_transient: bool = False,
        is_unreachable: bool = False,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.is_transient = is_transient
        self.is_unreachable = is_unreachable
        self.retry_after_s = retry_after_s


class Response:
    """An open answer. Use as a context manager."""

    def __init__(self, raw: http.client.HTTPResponse, url: str) -> None:
        self._raw = raw
        self.url = url
        self.status: int = raw.status

    def header(self, name: str) -> str | None:
        """A header's value, or None."""
        return self._raw.headers.get(name)

    def read(self, num_bytes: int) -> bytes:
        """At most so many bytes, empty at the end. Raises TransferError if the connection breaks."""
        try:
            return self._raw.read(num_bytes)
        except (OSError, http.client.HTTPException) as error:
            raise _as_transfer_error(error, self.url, is_connected=True) from None

    def __enter__(self) -> Response:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._raw.close()


class Transport:
    """Opens URLs under one configuration. ``sleep`` is a parameter so that tests need not wait."""

    def __init__(self, config: IndexConfig, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._timeout_s = config.timeout_s or None
        self._retries = config.retries
        self._credentials = config.credentials
        self._sleep = sleep
        self._opener = _opener(config)

    def open(self, url: str, headers: Mapping[str, str] | None = None) -> Response:
        """GET, following redirects. Raises TransferError for a failure and for any status of 400 and above."""
        request = urllib.request.Request(url, headers={"User-Agent": f"lepton-ai/{__version__}", **(headers or {})})
        _authorise(request, self._credentials)
        try:
            raw = self._opener.open(request, timeout=self._timeout_s)
        except HTTPError as error:
            with closing(error):
                raise _from_status(error, url) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _as_transfer_error(error, url, is_connected=False) from None
        return Response(raw, raw.url)

    def backoff(self) -> Backoff:
        """A fresh count of attempts."""
        return Backoff(self._retries, self._sleep)


class Backoff:
    """Decides, after each failed attempt, between a pause and giving up."""

    def __init__(self, retries: int, sleep: Callable[[float], None]) -> None:
        self._retries = retries
        self._sleep = sleep
        self._failures = 0
        self._has_answered = False

    def progressed(self) -> None:
        """The last attempt brought bytes: the count starts over."""
        self._failures = 0
        self._has_answered = True

    def pause(self, error: TransferError) -> None:
        """Wait before the next attempt. Raises DownloadFailed if there should be none.

        A host that has never answered is tried twice only: whoever is offline wants to hear it now.
        """
        limit = min(self._retries, 1) if error.is_unreachable and not self._has_answered else self._retries
        if not error.is_transient or self._failures >= limit:
            raise DownloadFailed(str(error)) from None
        wanted = error.retry_after_s if error.retry_after_s is not None else 0.5 * 2**self._failures
        self._failures += 1
        self._sleep(min(wanted, _MAX_PAUSE_S))


class _Redirects(urllib.request.HTTPRedirectHandler):
    def __init__(self, credentials: CredentialStore) -> None:
        self._credentials = credentials

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        source, target = urlsplit(req.full_url), urlsplit(newurl)
        if target.scheme not in ("http", "https") or (source.scheme == "https" and target.scheme != "https"):
            raise TransferError(
                f"{host_of(req.full_url)} redirects from {source.scheme} to {target.scheme or 'no scheme'} "
                f"({mask(newurl)}), which is refused"
            )
        # Credentials in a Location header are the server's idea, not the user's.
        bare = target._replace(netloc=target.netloc.rpartition("@")[2], fragment="").geturl()
        request = super().redirect_request(req, fp, code, msg, headers, bare)
        if request is not None:
            _authorise(request, self._credentials)
        return request


def _authorise(request: urllib.request.Request, credentials: CredentialStore) -> None:
    """As an unredirected header: urllib would carry a plain one to whatever host a redirect names."""
    if (found := credentials.find(request.full_url)) is not None:
        request.add_unredirected_header("Authorization", found.basic())


def _opener(config: IndexConfig) -> urllib.request.OpenerDirector:
    # Built by hand: build_opener() would also open file:, ftp: and data: URLs, and a server chooses the URLs.
    opener = urllib.request.OpenerDirector()
    proxies = None if config.proxy is None else {"http": config.proxy, "https": config.proxy}
    handlers: list[urllib.request.BaseHandler] = [
        urllib.request.ProxyHandler(proxies),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=_tls_context(config)),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(config.credentials),
    ]
    for handler in handlers:
        opener.add_handler(handler)
    return opener


def _tls_context(config: IndexConfig) -> ssl.SSLContext:
    """Certificates are always checked. Without ``cert``, OpenSSL's own store, SSL_CERT_FILE and SSL_CERT_DIR hold."""
    try:
        if config.cert is None:
            context = ssl.create_default_context()
        elif os.path.isdir(config.cert):
            context = ssl.create_default_context(capath=config.cert)
        else:
            context = ssl.create_default_context(cafile=config.cert)
        if config.client_cert is not None:
            context.load_cert_chain(config.client_cert)
    except (OSError, ssl.SSLError) as error:
        raise InvalidRequest(f"pip option cert or client-cert: {error.strerror or error}", param="cert") from None
    return context


def _from_status(error: HTTPError, url: str) -> TransferError:
    where = mask(error.url or url)
    message = f"{where} answered {error.code} {error.reason}".rstrip()
    if error.code in (401, 403):
        message += "; check the credentials of the index URL"
    if error.code == 407:
        message += "; check the credentials of the proxy"
    return TransferError(
        message,
        status=error.code,
        is_transient=error.code in _TRANSIENT_STATUS,
        retry_after_s=_seconds(error.headers),
    )


def _seconds(headers: Message) -> float | None:
    value = headers.get("Retry-After", "") or ""
    return float(value) if value.isascii() and value.isdigit() else None


def _as_transfer_error(error: Exception, url: str, *, is_connected: bool) -> TransferError:
    reason: object = error.reason if isinstance(error, URLError) else error
    host = host_of(url)
    if isinstance(reason, ssl.SSLCertVerificationError):
        return TransferError(
            f"{host}: its certificate is not trusted ({reason.verify_message}); "
            "name your CA bundle in pip's option cert or in SSL_CERT_FILE"
        )
    if isinstance(reason, (TimeoutError, socket.timeout)):
        text = "timed out"
    elif isinstance(reason, socket.gaierror):
        text = f"its address was not found ({reason.strerror})"
    elif isinstance(reason, OSError):
        text = reason.strerror or str(reason) or type(reason).__name__
    else:
        text = str(reason) or type(reason).__name__
    if is_connected:
        return TransferError(f"{host}: the connection broke: {text}", is_transient=True)
    return TransferError(
        f"{host} cannot be reached: {text}; check the network and the proxy, or name another index in LEPTON_INDEX_URL",
        is_transient=not isinstance(error, ValueError),
        is_unreachable=True,
    )
