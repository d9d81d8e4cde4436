"""How a request can fail, as errors of ours: each has the kind under which it is counted."""

from __future__ import annotations

from lepton_ai.errors import LeptonError


class RequestFailed(LeptonError):
    """A request that a server did not answer well. ``kind`` is short, and the same for all that failed this way."""

    status, code = 502, "request_failed"

    def __init__(self, message: str, *, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


class CannotConnect(RequestFailed):
    """There is no connection to be had."""

    code = "cannot_connect"

    def __init__(self, message: str) -> None:
        super().__init__(message, kind="cannot connect")


class Disconnected(RequestFailed):
    """The connection ended before the answer did. ``had_answer``: whether some of it had come."""

    code = "disconnected"

    def __init__(self, message: str, *, had_answer: bool) -> None:
        super().__init__(message, kind="broke off" if had_answer else "disconnected")
        self.had_answer = had_answer


class TimedOut(RequestFailed):
    """The answer did not end in time."""

    status, code = 504, "timed_out"

    def __init__(self, message: str) -> None:
        super().__init__(message, kind="timed out")


class MalformedAnswer(RequestFailed):
    """What came is not HTTP, not a stream of events, or not what the interface has in them."""

    code = "malformed_answer"

    def __init__(self, message: str) -> None:
        super().__init__(message, kind="malformed answer")


class Refused(RequestFailed):
    """The server said no, or that it failed: by a status, or by an event in a stream.

    ``http_status`` is that of the answer, and ``server_code`` what the error object calls itself, empty if it does not.
    """

    code = "refused"

    def __init__(self, http_status: int, server_code: str, server_message: str) -> None:
        place = "in a stream" if http_status == 200 else f"HTTP {http_status}"
        super().__init__(
            f"the server answered {place}, {server_code or 'without a code'}: {server_message or 'no message'}",
            kind=" ".join(part for part in (place, server_code) if part),
        )
        self.http_status = http_status
        self.server_code = server_code
        self.server_message = server_message
