"""What every request passes: a key that opens the path and has something left, and bounds on the body."""

from __future__ import annotations

import ipaddress
import logging
import math
from collections.abc import Mapping
from functools import lru_cache

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lepton_ai.errors import InvalidRequest, LeptonError
from lepton_ai.serve.access.keys import Key, KeyRing
from lepton_ai.serve.access.rate_limits import RateLimited, RateLimits
from lepton_ai.serve.access.scopes import OPEN_PATHS, Forbidden, scope_of
from lepton_ai.serve.http.bounds import Bounds, TooLarge, TooSlow, UnsupportedBody
from lepton_ai.serve.http.errors import error_response
from lepton_ai.serve.http.tally import Tally

_LOG = logging.getLogger("lepton_ai.serve")


class Gate:
    """ASGI middleware. ``keys`` None lets everyone in who calls the server by an address of this machine: a page of
    another site, whose name was made to lead here, does not.

    It leaves ``tenant``, the name of the key, in the request's state, and charges the key what the tally says.
    """

    def __init__(self, app: ASGIApp, keys: KeyRing | None, bounds: Bounds, limits: RateLimits) -> None:
        self._app = app
        self._keys = keys
        self._bounds = bounds
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        account = _Account(self._limits, scope["state"]["tally"])
        has_begun = False

        async def send_with_limits(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                message = account.with_headers(message)
            await send(message)

        try:
            headers = headers_of(scope["headers"])
            self._let_in(scope, headers, account)
            body = await self._read_body(headers, receive)
            await self._app(scope, _replay(body, receive), send_with_limits)
        except LeptonError as error:
            await error_response(error, _headers_of_error(error))(scope, receive, send_with_limits)
        except Exception as error:
            request_id = scope["state"]["request_id"]
            _LOG.error("request %s failed", request_id, exc_info=error)
            if not has_begun:  # or else uvicorn closes the connection, as the answer has no end
                failure = LeptonError(f"internal error; the server's log has more about request {request_id}")
                await error_response(failure)(scope, receive, send_with_limits)
        finally:
            account.settle()

    def _let_in(self, scope: Scope, headers: Mapping[str, str], account: _Account) -> None:
        path = scope["path"]
        if not path.isprintable():  # the router takes a line's end for the end of a path
            raise InvalidRequest(f"path: expected no control characters, got {path!r:.80}", param="path")
        if path in OPEN_PATHS:
            return
        if self._keys is None:
            return _check_host(headers.get("host", ""))
        key = self._keys.find(headers.get("authorization"))
        scope["state"]["tenant"] = key.name
        account.open(key)
        wanted = scope_of(path)
        if wanted is not None and wanted not in key.scopes:
            raise Forbidden(f"key: expected one with the scope {wanted.value}, which {key.name} is without")
        account.admit()

    async def _read_body(self, headers: Mapping[str, str], receive: Receive) -> Message:
        """The whole body as one message, or that the client has left. Raises TooLarge as soon as that is clear."""
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise UnsupportedBody("content-encoding: expected none, bodies are not decompressed")
        is_json = headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json"
        most, length = self._bounds.max_body_bytes, headers.get("content-length", "")
        if length.isascii() and length.isdigit() and int(length[:20]) > most:
            raise TooLarge(f"body: expected at most {most} bytes, got {length[:20]}")
        body = bytearray()
        try:
            with anyio.fail_after(self._bounds.body_s):
                while True:
                    message = await receive()
                    if message["type"] != "http.request":
                        return message
                    body += message.get("body", b"")
                    if len(body) > most:
                        raise TooLarge(f"body: expected at most {most} bytes, got more")
                    if body and not is_json:
                        raise UnsupportedBody("content-type: expected application/json")
                    if not message.get("more_body", False):
                        return {"type": "http.request", "body": bytes(body), "more_body": False}
        except TimeoutError:
            raise TooSlow(f"body: expected all of it in {self._bounds.body_s:g} s") from None


class _Account:
    """What one request costs its key, if it is limited."""

    def __init__(self, limits: RateLimits, tally: Tally) -> None:
        self._limits = limits
        self._tally = tally
        self._key: Key | None = None
        self._num_charged = 0

    def open(self, key: Key) -> None:
        """Say who pays, if it is limited."""
        self._key = key if key.limits.is_limited else None

    def admit(self) -> None:
        """Take a request from the key. Raises RateLimited."""
        if self._key is not None:
            self._limits.admit(self._key)

    def settle(self) -> None:
        """Charge what was used since the last time."""
        if self._key is not None:
            num_tokens = self._tally.num_tokens
            self._limits.charge(self._key, num_tokens - self._num_charged)
            self._num_charged = num_tokens

    def with_headers(self, message: Message) -> Message:
        """The beginning of an answer, with what the key has left."""
        if self._key is None:
            return message
        self.settle()
        more = [(k.encode("ascii"), v.encode("ascii")) for k, v in self._limits.headers(self._key).items()]
        return {**message, "headers": [*message.get("headers", []), *more]}


def headers_of(raw: list[tuple[bytes, bytes]]) -> Mapping[str, str]:
    """Headers by their names in lower case; of one that is there twice, the last."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in raw}


def _headers_of_error(error: LeptonError) -> Mapping[str, str]:
    match error:
        case RateLimited():
            return {"retry-after": str(max(1, math.ceil(error.retry_after_s)))}
        case TooSlow():
            return {"connection": "close"}
        case LeptonError(status=401):
            return {"www-authenticate": "Bearer"}
        case _:
            return {}


def _check_host(host: str) -> None:
    """Raises Forbidden for a name by which nobody calls this machine from itself."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    if not is_loopback(name.strip("[]")):
        raise Forbidden(f"host: expected an address of this machine alone, as there are no keys, got {host!r:.80}")


@lru_cache(maxsize=64)
def is_loopback(host: str) -> bool:
    """Whether only this machine can be meant."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _replay(first: Message, receive: Receive) -> Receive:
    """Gives ``first``, then what comes."""
    waiting = [first]

    async def receive_again() -> Message:
        return waiting.pop() if waiting else await receive()

    return receive_again
