"""A connection: uvicorn's protocol over httptools, with bounds on what a client sends and on how long it takes.

uvicorn has no bound on the time of a request's head, on bytes that are no part of a body, on requests that are sent
ahead, and on answers that nobody reads; and its own refusals are not in JSON.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from asyncio import TimerHandle
from typing import Any, cast

import httptools
import uvicorn
from starlette.types import Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from lepton_ai.errors import InvalidRequest, LeptonError, Overloaded
from lepton_ai.serve.http.bounds import Bounds, HeadTooLarge, TooSlow
from lepton_ai.serve.http.errors import error_body
from lepton_ai.serve.http.sse import send_pieces_by

_MAX_SENT_AHEAD = 16
_LINGER_S = 2.0
_UPGRADE = re.compile(rb"\r\nupgrade(?=[ \t]*:)", re.IGNORECASE)


class TooManyConnections(Overloaded):
    """More connections are open than the server holds."""

    code = "too_many_connections"


class BoundedConfig(uvicorn.Config):
    """The configuration of a server whose connections have bounds, and TLS if there is a context for it.

    What uvicorn would log of a request is not: the access log is ours, and a client is who is at the other end of the
    connection, whatever headers say.
    """

    def __init__(self, app: Any, bounds: Bounds, tls: ssl.SSLContext | None = None, **options: Any) -> None:
        super().__init__(
            app,
            http=BoundedProtocol,
            ws="none",
            log_config=None,
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=bounds.idle_s,  # type: ignore[arg-type]  # a fraction will do too
            **options,
        )
        self.bounds = bounds
        self._tls = tls

    def load(self) -> None:
        """Make ready to serve. uvicorn would make a context of its own, from files."""
        super().load()
        self.ssl = self._tls


class BoundedProtocol(HttpToolsProtocol):
    """One connection.

    A head must be complete in ``head_s`` from the connection on, or from the first byte after the last answer; the body
    is read, and timed, by the application. A refusal is written here only where no answer is under way.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        assert isinstance(config, BoundedConfig)
        self._bounds = config.bounds
        self._head_timer: TimerHandle | None = None
        self._read_timer: TimerHandle | None = None
        self._end_timer: TimerHandle | None = None
        self._refusal: LeptonError | None = None
        self._is_in_message = False
        self._is_in_head = False
        self._head_bytes = 0
        self._num_bytes_without_body = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a head, or for the first bytes of one that is refused: clients read no answer before they ask."""
        super().connection_made(transport)
        # No more than one message is ever unsent. With 0, TLS of uvloop would wait for ever.
        transport.set_write_buffer_limits(high=1)
        num_connections = len(self.connections)
        if num_connections > 2 * self._bounds.max_connections:
            transport.abort()
        elif num_connections > self._bounds.max_connections:
            self._refusal = TooManyConnections(
                f"connections: expected at most {self._bounds.max_connections} at a time; try again later"
            )
            self._start_head_timer(min(1.0, self._bounds.head_s))
        else:
            self._start_head_timer(self._bounds.head_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget what waits."""
        self._stop_head_timer()
        self.resume_writing()
        if self._end_timer is not None:
            self._end_timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, within bounds. Bytes that are no part of a body (heads, trailers, the frames of chunks) are counted
        until some are.
        """
        if self._refusal is not None:
            return self._refuse(self._refusal)
        self._unset_keepalive_if_required()
        if self._head_timer is None and self._is_answered:
            self._start_head_timer(self._bounds.head_s)
        if not self._is_in_message:
            data = _without_upgrade(data)
        self._num_bytes_without_body += len(data)
        try:
            self.parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._refuse(self._refusal or InvalidRequest("request: expected HTTP/1.1"))
        else:
            if self._num_bytes_without_body > self._bounds.max_head_bytes:
                self._refuse(self._too_large())

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self._is_in_message, self._is_in_head, self._head_bytes = True, True, 0

    def on_url(self, url: bytes) -> None:
        """A part of the request line."""
        self._count_head(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; or a trailer, which could pass for a header that was checked already, and is dropped."""
        self._count_head(len(name) + len(value))
        if self._is_in_head:
            if len(self.headers) >= self._bounds.max_headers:
                self._stop_parsing(self._too_large())
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head has come in time."""
        if len(self.pipeline) >= _MAX_SENT_AHEAD:
            self._stop_parsing(InvalidRequest(f"request: expected at most {_MAX_SENT_AHEAD} ahead of their answers"))
        if self.parser.should_upgrade():
            self._stop_parsing(InvalidRequest("upgrade: expected none, HTTP/1.1 is all that is spoken here"))
        self._stop_head_timer()
        self._is_in_head, self._num_bytes_without_body = False, 0
        super().on_headers_complete()
        send_pieces_by(cast("Send", self.cycle.send), cast("Scope", self.scope))

    def on_body(self, body: bytes) -> None:
        """A part of a body."""
        self._num_bytes_without_body = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A request has come."""
        super().on_message_complete()
        self._is_in_message = False

    def on_response_complete(self) -> None:
        """If this was the last answer, what is left of it is sent while it is read."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._abort_in(self._bounds.read_s)

    def pause_writing(self) -> None:
        """The client does not read as fast as it is answered: it has some time to catch up."""
        super().pause_writing()
        if self._read_timer is None:
            self._await_reader()

    def resume_writing(self) -> None:
        """It has."""
        super().resume_writing()
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None

    def timeout_keep_alive_handler(self) -> None:
        """No further request has come."""
        self._close()

    @property
    def _is_answered(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _await_reader(self, num_bytes_before: int | None = None) -> None:
        """End the connection of a client that has read nothing for ``read_s``."""
        num_bytes = self.transport.get_write_buffer_size()
        if num_bytes_before is not None and num_bytes >= num_bytes_before:
            return self.transport.abort()
        self._read_timer = self.loop.call_later(self._bounds.read_s, self._await_reader, num_bytes)

    def _start_head_timer(self, seconds: float) -> None:
        self._head_timer = self.loop.call_later(seconds, self._on_late_head)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _on_late_head(self) -> None:
        self._head_timer = None
        if self._refusal is not None:
            self._refuse(self._refusal)
        elif self._is_in_head:
            self._refuse(TooSlow(f"request: expected its headers in {self._bounds.head_s:g} s"))
        else:
            self._close()  # nothing was asked, or the rest of a request that is answered does not end

    def _count_head(self, num_bytes: int) -> None:
        self._head_bytes += num_bytes
        if self._head_bytes > self._bounds.max_head_bytes:
            self._stop_parsing(self._too_large())

    def _too_large(self) -> LeptonError:
        return HeadTooLarge(
            f"headers: expected at most {self._bounds.max_headers} with {self._bounds.max_head_bytes} bytes in all"
        )

    def _stop_parsing(self, error: LeptonError) -> None:
        """The parser turns what a callback raises into its own error, so that is kept."""
        self._refusal = error
        raise error

    def _refuse(self, error: LeptonError) -> None:
        self._refusal = error
        if self.transport.is_closing():
            return
        if self._is_answered:
            body = error_body(error)
            head = STATUS_LINE[error.status] + b"content-type: application/json\r\nconnection: close\r\n"
            if isinstance(error, TooManyConnections):
                head += b"retry-after: 1\r\n"
            self.transport.write(b"%scontent-length: %d\r\n\r\n%s" % (head, len(body), body))
            self._close()
        elif self.cycle.more_body:  # an answer is on its way, and nothing can be said
            self.transport.abort()
        else:  # to a request that is whole: it comes first
            self.cycle.keep_alive = False
            self.flow.pause_reading()

    def _close(self) -> None:
        """What was written is sent first, if it is read."""
        self._stop_head_timer()
        if not self.transport.is_closing():
            self.transport.close()
            self._abort_in(_LINGER_S)

    def _abort_in(self, seconds: float) -> None:
        if self._end_timer is None:
            self._end_timer = self.loop.call_later(seconds, self.transport.abort)


def _without_upgrade(data: bytes) -> bytes:
    """The beginning of a request without a wish for another protocol, which may be ignored: clients that would rather
    speak HTTP/2 send it with each. The parser takes a body for a part of that protocol.
    """
    end = data.find(b"\r\n\r\n")
    return _UPGRADE.sub(b"\r\nx-upgrade", data[:end]) + data[end:] if end >= 0 else data
