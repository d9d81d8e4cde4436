"""Keeps an engine running: notices that it has ended, or is silent, and starts another.

Requests that come meanwhile are refused at once and told when to come again. Waiting here for an engine that may not
come back would hold their connections and use up their time, while another server might answer them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from math import ceil
from typing import Generic, Protocol, TypeVar

from lepton_ai.errors import EngineDied, LeptonError
from lepton_ai.serve.life.crashes import Crashes
from lepton_ai.serve.life.options import LifeOptions
from lepton_ai.serve.life.state import Life, Phase

_LOG = logging.getLogger("lepton_ai.serve")
_MOST_PINGS_S = 5.0
_PINGS_IN_TIMEOUT = 4


class Engine(Protocol):
    """What runs models, as far as its life goes."""

    @property
    def ended(self) -> Future[LeptonError]:
        """Why it is of no use any more, once that is so."""
        ...

    def ping(self) -> Future[object]:
        """A sign of life. Raises LeptonError if there will be none."""
        ...

    def kill(self) -> None:
        """End it, whatever it does."""
        ...

    async def close(self) -> None:
        """Let go of all that it has."""
        ...


EngineT = TypeVar("EngineT", bound=Engine)


class Supervisor(Generic[EngineT]):
    """``start`` makes an engine, ``install`` puts it to use. In ``async with``, which closes the last one."""

    def __init__(
        self,
        start: Callable[[], Awaitable[EngineT]],
        install: Callable[[EngineT], None],
        life: Life,
        options: LifeOptions,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._start = start
        self._install = install
        self._life = life
        self._timeout_s = options.engine_timeout_s
        self._interval_s = min(_MOST_PINGS_S, options.engine_timeout_s / _PINGS_IN_TIMEOUT)
        self._crashes = Crashes(options.max_crashes, options.crash_window_s)
        self._clock = clock
        self._sleep = sleep
        self._engine: EngineT | None = None
        self._start_s = 0.0

    async def start(self) -> None:
        """The first engine. Raises like ``start``."""
        began = self._clock()
        self._engine = await self._start()
        self._start_s = self._clock() - began
        self._install(self._engine)
        self._life.begin()

    async def watch(self) -> None:
        """Replace engines that fail, until the server drains. Raises EngineDied after too many in too short a time."""
        while True:
            assert self._engine is not None
            error = await self._failure(self._engine)
            if self._life.phase is Phase.DRAINING:
                return
            await self._restart(error)

    async def close(self) -> None:
        """Let go of the engine."""
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.close()

    async def __aenter__(self) -> Supervisor[EngineT]:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _failure(self, engine: EngineT) -> LeptonError:
        """Wait until an engine is of no use."""
        ended = asyncio.wrap_future(engine.ended)
        while not ended.done():
            if not await self._answers(engine):
                _LOG.error("the engine was silent for %g s, and is ended", self._timeout_s)
                engine.kill()
                break
            await asyncio.wait((ended,), timeout=self._interval_s)
        return await ended

    async def _answers(self, engine: EngineT) -> bool:
        """False if an engine that has not ended gives no sign of life."""
        try:
            answer = asyncio.wrap_future(engine.ping())
            try:
                # Not ``wait_for``: before Python 3.12, who is cancelled as the answer comes would go on.
                await asyncio.wait((answer,), timeout=self._timeout_s)
                if not answer.done():
                    return False
                answer.result()
            finally:
                answer.cancel()
        except LeptonError:
            pass  # it has ended, and ``ended`` says why
        return True

    async def _restart(self, error: LeptonError) -> None:
        """Start engines until one comes up."""
        while True:
            delay_s = self._crashes.delay_s(self._clock())
            if delay_s is None:
                raise EngineDied(f"the engine failed too often in a short time, lastly: {error.message}") from error
            _LOG.error("%s; another engine is started in %g s", error.message, delay_s)
            self._life.lose_engine(max(1, ceil(delay_s + self._start_s)))
            await self.close()
            await self._sleep(delay_s)
            try:
                await self.start()
            except LeptonError as failed:
                error = failed
                continue
            _LOG.warning("the engine runs again, after %.1f s", self._start_s)
            return
