"""Where a server is in its life, and how many requests it answers."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Iterator
from contextlib import contextmanager

from lepton_ai.errors import Overloaded


class Starting(Overloaded):
    """Models are being loaded."""

    code = "starting"


class EngineRestarting(Overloaded):
    """The process of the engine has ended, and a new one loads the models."""

    code = "engine_restarting"


class ShuttingDown(Overloaded):
    """The server ends."""

    code = "shutting_down"


class Phase(enum.Enum):
    """``value`` is what ``/ready`` says."""

    STARTING = "starting"
    READY = "ready"
    ENGINE_RESTARTING = "engine_restarting"
    DRAINING = "draining"


_START_S = 5


class Life:
    """Only moves on: what drains never gets ready again. To be used in one thread."""

    def __init__(self, phase: Phase = Phase.READY) -> None:
        self._phase = phase
        self._restart_s = 1
        self._num_requests = 0
        self._is_idle = asyncio.Event()
        self._is_idle.set()

    @property
    def phase(self) -> Phase:
        """Where it is."""
        return self._phase

    @property
    def num_requests(self) -> int:
        """Requests that are being answered."""
        return self._num_requests

    @property
    def is_ready(self) -> bool:
        """Whether work would be taken."""
        return self._phase is Phase.READY

    def begin(self) -> None:
        """All models are there, for the first time or again."""
        if self._phase is not Phase.DRAINING:
            self._phase = Phase.READY

    def lose_engine(self, restart_s: int) -> None:
        """The engine has ended; another is expected in so many seconds."""
        self._restart_s = restart_s
        if self._phase is not Phase.DRAINING:
            self._phase = Phase.ENGINE_RESTARTING

    def drain(self) -> None:
        """Take nothing more."""
        self._phase = Phase.DRAINING

    def refusal(self) -> Overloaded | None:
        """Why no request is taken, None if it is."""
        match self._phase:
            case Phase.STARTING:
                return Starting("the server loads its models", retry_after_s=_START_S)
            case Phase.DRAINING:
                return ShuttingDown("the server ends")
            case _:
                return None

    def check_engine(self) -> None:
        """Raise EngineRestarting while there is none."""
        if self._phase is Phase.ENGINE_RESTARTING:
            raise EngineRestarting("the engine is being started again", retry_after_s=self._restart_s)

    @contextmanager
    def request(self) -> Iterator[None]:
        """For as long as a request is answered."""
        self._num_requests += 1
        self._is_idle.clear()
        try:
            yield
        finally:
            self._num_requests -= 1
            if not self._num_requests:
                self._is_idle.set()

    async def wait_idle(self, timeout_s: float) -> bool:
        """Wait until no request is answered; False if some still are when the time is over."""
        if not self._is_idle.is_set():
            try:
                await asyncio.wait_for(self._is_idle.wait(), timeout_s)
            except asyncio.TimeoutError:
                return False
        return True
