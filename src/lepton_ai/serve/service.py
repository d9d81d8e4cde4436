"""What the routes share: models by name, whose a request is, and what becomes of it when its client leaves."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from starlette.requests import Request

from lepton_ai.engine.outputs import Chunk
from lepton_ai.engine.request_options import RequestOptions
from lepton_ai.engine.stream import Stream
from lepton_ai.errors import InvalidRequest, ModelNotFound
from lepton_ai.serve.caller import Caller
from lepton_ai.serve.http.errors import ClientLeft
from lepton_ai.serve.http.sse import until_left
from lepton_ai.serve.http.tally import tally_of
from lepton_ai.serve.life.state import Life
from lepton_ai.serve.served_model import ServedModel

ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class Service:
    """The models that are served, by the names that requests call them by, and where the server is in its ``life``.

    ``created`` is the time of the start, s.
    """

    models: Mapping[str, ServedModel]
    life: Life = field(default_factory=Life)
    created: int = field(default_factory=lambda: int(time.time()))

    def model(self, name: str) -> ServedModel:
        """The model of this name. Raises ModelNotFound."""
        if name not in self.models:
            raise ModelNotFound(f"model: expected one of {', '.join(self.models)}, got {name!r:.80}", param="model")
        return self.models[name]

    def one(self, name: str | None) -> ServedModel:
        """The model of this name, or the only one. Raises ModelNotFound, InvalidRequest."""
        if name is not None:
            return self.model(name)
        if len(self.models) > 1:
            raise InvalidRequest(f"model: expected one of {', '.join(self.models)}, got none", param="model")
        return next(iter(self.models.values()))

    def caller(self, request: Request, *, user: str | None = None, priority: int | None = None) -> Caller:
        """Whose the request is, how urgent, and until when. Raises InvalidRequest."""
        key = getattr(request.state, "tenant", "")
        options = RequestOptions(tenant=f"{key}/{user or ''}"[:256], priority=priority or 0)
        return Caller(options, key, getattr(request.state, "deadline", None), tally_of(request))


def service_of(request: Request) -> Service:
    """That of the application."""
    service = request.app.state.service
    assert isinstance(service, Service)
    return service


def new_id(prefix: str) -> str:
    """An id that no other answer has."""
    return f"{prefix}-{secrets.token_hex(12)}"


@contextmanager
def naming_constraint(name: str) -> Iterator[None]:
    """Say which field of a request a constraint comes from that does not compile."""
    try:
        yield
    except InvalidRequest as error:
        if error.param != "constraint":
            raise
        raise type(error)(f"{name}: {error.message.removeprefix('constraint: ')}", param=name) from error


async def while_connected(request: Request, work: Awaitable[ResultT]) -> ResultT:
    """The result of ``work``, which is cancelled when the client leaves. Raises ClientLeft then."""
    task = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(until_left(request.receive))
    try:
        await asyncio.wait((task, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientLeft("the client has left")
        return task.result()
    finally:
        leaving.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait((task,))


async def merged(streams: Sequence[Stream]) -> AsyncGenerator[tuple[int, Chunk], None]:
    """Chunks of several streams as they come, each with the number of its stream."""
    try:
        if len(streams) == 1:
            async for chunk in streams[0]:
                yield 0, chunk
            return
        waiting = {_next_of(stream): index for index, stream in enumerate(streams)}
        while waiting:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                index, piece = waiting.pop(task), task.result()
                if piece is not None:
                    waiting[_next_of(streams[index])] = index
                    yield index, piece
    finally:
        cancel_all(streams)


def cancel_all(streams: Iterable[Stream]) -> None:
    """End what has not ended."""
    for stream in streams:
        stream.cancel()


def _next_of(stream: Stream) -> asyncio.Future[Chunk | None]:
    """The next chunk. If several fail at once, the first is told of, and the others must not complain of that."""
    task = asyncio.ensure_future(anext(stream, None))
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task
