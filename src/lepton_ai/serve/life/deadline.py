"""Until when an answer is of use.

Who asks says it in a header, ``x-request-timeout: SECONDS``: it is about how an answer is delivered, not about what it
says, so that it means the same on every route, clients of OpenAI's can set it (``extra_headers``), and so can a proxy
between, without reading a body.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from lepton_ai.errors import InvalidRequest, LeptonError

HEADER = "x-request-timeout"


class DeadlineExceeded(LeptonError):
    """An answer was not there in the time that its request gives.

    504 and not 408, which tells a client that it was too slow itself, and that asking once more is safe and may help.
    """

    status, code = 504, "deadline_exceeded"


@dataclass(frozen=True, slots=True)
class Deadline:
    """``at`` is a time of the event loop, ``timeout_s`` after the request came."""

    at: float
    timeout_s: float

    @classmethod
    def of_header(cls, value: str | None, *, now: float, most_s: float) -> Deadline:
        """What a request says, but no later than ``most_s`` from ``now``. Raises InvalidRequest."""
        timeout_s = most_s if value is None else min(_seconds(value), most_s)
        return cls(now + timeout_s, timeout_s)

    def error(self) -> DeadlineExceeded:
        """What to say when it has passed."""
        return DeadlineExceeded(f"{HEADER}: the answer was not complete within {self.timeout_s:g} s", param=HEADER)


def _seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise InvalidRequest(f"{HEADER}: expected a positive number of seconds, got {value!r:.40}", param=HEADER)
    return seconds
