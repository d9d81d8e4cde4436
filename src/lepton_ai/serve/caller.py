"""Who asks, and until when."""

from __future__ import annotations

from dataclasses import dataclass, field

from lepton_ai.engine.request_options import RequestOptions
from lepton_ai.serve.http.tally import Tally
from lepton_ai.serve.life.deadline import Deadline


@dataclass(frozen=True, slots=True)
class Caller:
    """Of one request. ``key`` is the name of the key that it came with, which shares the queue with others; empty
    without keys. ``options`` say whom the engine is fair between, a user of a key, and how urgent it is. What is used
    for it stands in the ``tally``.
    """

    options: RequestOptions = field(default_factory=RequestOptions)
    key: str = ""
    deadline: Deadline | None = None
    tally: Tally = field(default_factory=Tally)
