"""Server-sent events of a streamed answer, and what in them is of interest."""

from __future__ import annotations

import msgspec

from lepton_ai.loadgen.failures import MalformedAnswer

DONE = b"[DONE]"
_MAX_EVENT = 4 << 20


class EventSplitter:
    """Cuts a body into the data of its events. Lines end in LF or CRLF; comments and other fields are skipped."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, body: bytes) -> list[bytes]:
        """The events that end in ``body``. Raises MalformedAnswer for one that never does."""
        *lines, rest = (self._rest + body).split(b"\n")
        if len(rest) > _MAX_EVENT:
            raise MalformedAnswer(f"a stream: expected lines of at most {_MAX_EVENT} bytes, got more")
        self._rest = rest
        events = []
        for line in lines:
            text = line.removesuffix(b"\r")
            if text.startswith(b"data:"):
                self._data.append(text[5:].removeprefix(b" "))
            elif not text and self._data:
                events.append(b"\n".join(self._data))
                self._data = []
        return events


class ErrorObject(msgspec.Struct):
    """What errors look like. Servers put numbers and words into ``code``, and into ``type``."""

    message: str | None = None
    code: str | int | None = None
    type: str | int | None = None


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[msgspec.Raw] | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class Usage(msgspec.Struct):
    """Tokens as the server counted them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _Details | None = None

    @property
    def cached_tokens(self) -> int:
        """Tokens of the prompt that were not computed again, as far as the server says."""
        return (self.prompt_tokens_details and self.prompt_tokens_details.cached_tokens) or 0


class Piece(msgspec.Struct):
    """A piece of a streamed answer, of a chat or of a completion. What else is in it is not looked at."""

    choices: list[_Choice] = []
    usage: Usage | None = None
    error: ErrorObject | str | None = None

    @property
    def has_text(self) -> bool:
        """Whether a reader sees more than before: text, thoughts, or part of a call of a tool."""
        for choice in self.choices:
            if choice.text:
                return True
            delta = choice.delta
            if delta is not None and (delta.content or delta.reasoning_content or delta.tool_calls):
                return True
        return False

    @property
    def finishes(self) -> bool:
        """Whether it says why the answer ends."""
        return any(choice.finish_reason for choice in self.choices)


class _ErrorAnswer(msgspec.Struct):
    error: ErrorObject | str | None = None


_PIECES = msgspec.json.Decoder(Piece)
_ERRORS = msgspec.json.Decoder(_ErrorAnswer)


def read_piece(data: bytes) -> Piece:
    """A piece of its JSON. Raises MalformedAnswer."""
    try:
        return _PIECES.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedAnswer(f"a stream: expected the JSON of a piece of an answer: {error}") from None


def read_error(body: bytes) -> ErrorObject:
    """What an answer with a status of failure says, as far as it says it in the interface's form."""
    try:
        error = _ERRORS.decode(body).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ErrorObject()
    return as_error(error)


def as_error(error: ErrorObject | str | None) -> ErrorObject:
    """Some servers write a string."""
    return ErrorObject(message=error) if isinstance(error, str) else error or ErrorObject()
