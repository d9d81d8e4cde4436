"""A server of OpenAI's interface: its requests as bytes, and what it says of itself."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from lepton_ai.errors import InvalidRequest
from lepton_ai.loadgen.address import Address
from lepton_ai.loadgen.answer import AnswerReader, Outcome
from lepton_ai.loadgen.connection import HttpClient
from lepton_ai.loadgen.events import read_error
from lepton_ai.loadgen.failures import MalformedAnswer, Refused, RequestFailed

CHATS, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
_ABSENT = (404, 405, 501)
_ASK_TIMEOUT_S = 30.0
_MAX_ANSWER = 64 << 20

_AnswerT = TypeVar("_AnswerT")


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """A request to send: the path, the body as JSON, and how many tokens it asks for."""

    path: str
    body: bytes
    max_tokens: int


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


class _Version(msgspec.Struct):
    version: str


class _Tokens(msgspec.Struct):
    tokens: list[int]


@dataclass(slots=True)
class _Whole:
    """Takes a small answer as a whole: a ``Receiver``."""

    status: int = 0
    body: bytearray = field(default_factory=bytearray)

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        self.status = status

    def receive(self, body: bytes, now: float) -> None:
        self.body += body
        if len(self.body) > _MAX_ANSWER:
            raise MalformedAnswer(f"expected an answer of at most {_MAX_ANSWER} bytes, got more")


class Target:
    """One server. ``api_key`` goes into each request, and nowhere else.

    Raises InvalidRequest for a key that a header cannot have, without saying which.
    """

    def __init__(self, address: Address, api_key: str | None, *, timeout_s: float) -> None:
        if api_key is not None and not (api_key.isascii() and api_key.isprintable()):
            raise InvalidRequest("api_key: expected printable ASCII", param="api_key")
        self._client = HttpClient(address)
        self._prefix = address.prefix
        self._timeout_s = timeout_s
        authorization = "" if api_key is None else f"authorization: Bearer {api_key}\r\n"
        self._headers = f"host: {address.authority}\r\nuser-agent: lepton-bench\r\n{authorization}"

    async def send(self, request: LoadRequest, intended_s: float) -> Outcome:
        """Send a request now that was to be sent at ``intended_s``. Raises nothing: a failure is an outcome too."""
        outcome = Outcome(request.max_tokens, intended_s, sent_s=time.monotonic())
        reader = AnswerReader(outcome)
        try:
            await self._client.send(self._post(request.path, request.body), reader, timeout_s=self._timeout_s)
            reader.finish()
        except RequestFailed as error:
            outcome.failure = error
        outcome.end_s = time.monotonic()
        return outcome

    async def model_ids(self) -> list[str]:
        """What it serves. Raises RequestFailed."""
        _, body = await self._ask(self._get("/v1/models"), "/v1/models")
        return [model.id for model in _decode(body, _Models, "/v1/models").data]

    async def version(self) -> str | None:
        """What it says of its version, None if nothing. Raises RequestFailed for a server that is not there."""
        status, body = await self._ask(self._get("/version"), "/version", may_be=_ABSENT)
        return _decode(body, _Version, "/version").version if status == 200 else None

    async def tokenize(self, model: str, text: str) -> list[int] | None:
        """A text as ids of the model, None if the server has no route for that. Raises RequestFailed."""
        # The first is that of Lepton and vLLM, the second that of llama.cpp, which gives no tokens for the first.
        asked: tuple[Mapping[str, object], ...] = (
            {"model": model, "prompt": text, "add_special_tokens": False},
            {"content": text},
        )
        for body in asked:
            request = self._post("/tokenize", msgspec.json.encode(body))
            status, answer = await self._ask(request, "/tokenize", may_be=(*_ABSENT, 400, 422))
            if status == 200 and (ids := _decode(answer, _Tokens, "/tokenize").tokens):
                return ids
        return None

    async def close(self) -> None:
        """Close its connections. No request may be under way."""
        await self._client.close()

    async def _ask(self, request: bytes, path: str, *, may_be: tuple[int, ...] = ()) -> tuple[int, bytes]:
        answer = _Whole()
        await self._client.send(request, answer, timeout_s=_ASK_TIMEOUT_S)
        body = bytes(answer.body)
        if answer.status != 200 and answer.status not in may_be:
            error = read_error(body)
            raise Refused(answer.status, str(error.code or error.type or ""), f"{path}: {error.message or ''}"[:300])
        return answer.status, body

    def _get(self, path: str) -> bytes:
        return f"GET {self._prefix}{path} HTTP/1.1\r\n{self._headers}\r\n".encode("latin-1")

    def _post(self, path: str, body: bytes) -> bytes:
        head = f"POST {self._prefix}{path} HTTP/1.1\r\n{self._headers}content-type: application/json\r\n"
        return f"{head}content-length: {len(body)}\r\n\r\n".encode("latin-1") + body


def _decode(body: bytes, kind: type[_AnswerT], path: str) -> _AnswerT:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedAnswer(f"{path}: expected what the interface has there: {error}") from None
