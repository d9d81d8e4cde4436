"""Requests at work: each has its room, ends by its deadline, and can be made to fail from outside."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TypeVar
from weakref import WeakSet

from lepton_ai.engine.stream import Stream
from lepton_ai.errors import LeptonError
from lepton_ai.serve.admission.admission import Admission, Claim, Permit
from lepton_ai.serve.life.deadline import Deadline
from lepton_ai.serve.life.state import Life

ResultT = TypeVar("ResultT")


class Desk:
    """Where work begins, for all models of a server. To be used in the event loop's thread."""

    def __init__(self, admission: Admission, life: Life) -> None:
        self.admission = admission
        self.life = life
        self._works: set[Work] = set()
        self._end: LeptonError | None = None

    @property
    def num_works(self) -> int:
        """Requests at work."""
        return len(self._works)

    def check(self, model: str, work: int) -> None:
        """Raise what ``begin`` would raise for a request of at least so much work, whosever it is."""
        self.life.check_engine()
        self.admission.check(model, work)

    def begin(self, claim: Claim, deadline: Deadline | None) -> Work:
        """Let a request in. Raises QueueFull, EngineRestarting, and DeadlineExceeded if it is late already."""
        if self._end is not None:
            raise self._end
        self.life.check_engine()
        loop = asyncio.get_running_loop()
        if deadline is not None and deadline.at <= loop.time():
            raise deadline.error()
        work = Work(self, self.admission.admit(claim), loop, deadline)
        self._works.add(work)
        return work

    def close(self, error: LeptonError) -> None:
        """Make all that is at work fail, and what would still begin."""
        self._end = error
        for work in list(self._works):
            work.fail(error)

    def end(self, work: Work) -> None:
        """Forget a request."""
        self._works.discard(work)


class Work:
    """One request. It ends by ``close``, by ``with``, or when all streams that it was handed over to are left."""

    def __init__(self, desk: Desk, permit: Permit, loop: asyncio.AbstractEventLoop, deadline: Deadline | None) -> None:
        self._desk = desk
        self._permit = permit
        self._loop = loop
        self._thread_id = threading.get_ident()
        self._error: LeptonError | None = None
        self._task: asyncio.Task[object] | None = None
        # Not held: a stream that nobody has any more tells so.
        self._streams: WeakSet[Stream] = WeakSet()
        self._num_streams = 0
        self._timer = None if deadline is None else loop.call_at(deadline.at, self._expire, deadline)

    async def run(self, coroutine: Coroutine[object, object, ResultT]) -> ResultT:
        """The result of ``coroutine``, which is cancelled when this fails. Raises the error then."""
        task = self._loop.create_task(coroutine)
        self._task = task
        try:
            return await task
        except asyncio.CancelledError:
            if self._error is not None:
                raise self._error from None
            raise
        finally:
            self._task = None

    def hand_over(self, streams: Sequence[Stream]) -> None:
        """Go on for as long as anybody reads one of ``streams``."""
        self._streams.update(streams)
        self._num_streams = len(streams)
        for stream in streams:
            stream.on_leave(self._leave)
            if self._error is not None:
                stream.fail(self._error)

    def fail(self, error: LeptonError) -> None:
        """End what runs; who waits for it gets ``error``. The first error counts."""
        if self._error is not None:
            return
        self._error = error
        if self._task is not None:
            self._task.cancel()
        for stream in self._streams:
            stream.fail(error)

    def close(self) -> None:
        """Give back what the request has. A second time does nothing."""
        if self._timer is not None:
            self._timer.cancel()
        self._permit.release()
        self._desk.end(self)

    def __enter__(self) -> Work:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _expire(self, deadline: Deadline) -> None:
        self.fail(deadline.error())

    def _leave(self) -> None:
        """A stream was left; perhaps by a garbage collection, in any thread."""
        if threading.get_ident() == self._thread_id:
            self._close_stream()
        else:
            with suppress(RuntimeError):  # the loop is closed: so is everything
                self._loop.call_soon_threadsafe(self._close_stream)

    def _close_stream(self) -> None:
        self._num_streams -= 1
        if not self._num_streams:
            self.close()
