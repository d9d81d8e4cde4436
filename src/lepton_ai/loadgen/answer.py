"""One request and what a client sees of its answer: when pieces came, how many tokens there were, how it failed."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field

from lepton_ai.loadgen.events import DONE, ErrorObject, EventSplitter, Usage, as_error, read_error, read_piece
from lepton_ai.loadgen.failures import MalformedAnswer, Refused, RequestFailed

_MAX_ERROR_BODY = 64 << 10


@dataclass(slots=True)
class Outcome:
    """A request. Times are those of ``time.monotonic``, in seconds.

    ``intended_s`` is when it was to be sent: waits count from there, also those that the client itself is to blame for.
    ``finish_s`` is when the answer was said to be finished, else when its last text came. ``gaps_s`` lie between pieces
    of text. ``failure`` is None for an answer that came whole.
    """

    max_tokens: int
    intended_s: float
    sent_s: float = 0.0
    first_text_s: float | None = None
    finish_s: float | None = None
    end_s: float = 0.0
    gaps_s: array[float] = field(default_factory=lambda: array("d"))
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    failure: RequestFailed | None = None

    @property
    def num_pieces(self) -> int:
        """Events with text."""
        return 0 if self.first_text_s is None else 1 + len(self.gaps_s)

    @property
    def first_token_s(self) -> float | None:
        """How long the first text took; None if none came: a token need not have a text."""
        return None if self.first_text_s is None else self.first_text_s - self.intended_s

    @property
    def time_per_output_token_s(self) -> float | None:
        """The mean time of a token behind the first, None if there is none."""
        if self.first_text_s is None or self.finish_s is None or self.output_tokens < 2:
            return None
        return (self.finish_s - self.first_text_s) / (self.output_tokens - 1)

    @property
    def latency_s(self) -> float:
        """How long the whole answer took."""
        return self.end_s - self.intended_s


class AnswerReader:
    """Reads a streamed answer into an outcome: a ``Receiver``. A piece costs a microsecond or a few."""

    def __init__(self, outcome: Outcome) -> None:
        self._outcome = outcome
        self._splitter = EventSplitter()
        self._usage: Usage | None = None
        self._last_text_s = 0.0
        self._status = 0
        self._error_body = b""
        self._is_done = False

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """Of ``Receiver``. Raises MalformedAnswer for an answer that is not a stream."""
        self._status = status
        kind = headers.get("content-type", "")
        if status == 200 and not kind.startswith("text/event-stream"):
            raise MalformedAnswer(f"content-type: expected text/event-stream, got {kind!r:.60}")

    def receive(self, body: bytes, now: float) -> None:
        """Of ``Receiver``. Raises Refused for an error in the stream, MalformedAnswer for what is no stream."""
        if self._status != 200:
            self._error_body = (self._error_body + body)[:_MAX_ERROR_BODY]
            return
        for event in self._splitter.feed(body):
            if event == DONE:
                self._is_done = True
            else:
                self._take_piece(event, now)

    def finish(self) -> None:
        """The answer has ended. Raises RequestFailed if it was none, or not whole."""
        if self._status != 200:
            raise _refused(self._status, read_error(self._error_body))
        if not self._is_done:
            raise RequestFailed("the stream ended without [DONE]", kind="no [DONE]")
        if self._usage is None:
            raise RequestFailed("the stream ended without usage, which stream_options asks for", kind="no usage")
        outcome = self._outcome
        outcome.prompt_tokens = self._usage.prompt_tokens
        outcome.cached_tokens = self._usage.cached_tokens
        outcome.output_tokens = self._usage.completion_tokens
        if outcome.finish_s is None and outcome.first_text_s is not None:
            outcome.finish_s = self._last_text_s

    def _take_piece(self, event: bytes, now: float) -> None:
        piece = read_piece(event)
        if piece.error is not None:
            raise _refused(self._status, as_error(piece.error))
        if piece.usage is not None:  # some servers count in every piece: the last one says how many there were
            self._usage = piece.usage
        outcome = self._outcome
        if piece.has_text:
            if outcome.first_text_s is None:
                outcome.first_text_s = now
            else:
                outcome.gaps_s.append(now - self._last_text_s)
            self._last_text_s = now
        if piece.finishes:
            outcome.finish_s = now


def _refused(status: int, error: ErrorObject) -> Refused:
    code = error.type if error.code is None else error.code
    return Refused(status, "" if code is None else str(code)[:60], (error.message or "")[:300])
