"""Clients who do not read: with a transport of the tests, and pauses of some milliseconds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from lepton_ai.serve.life.write_timeout import with_write_timeout


class Base(asyncio.Protocol):
    def __init__(self) -> None:
        self.calls: list[str] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.calls.append("made")

    def pause_writing(self) -> None:
        self.calls.append("pause")

    def resume_writing(self) -> None:
        self.calls.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.calls.append("lost")


class Transport(asyncio.Transport):
    """``size`` bytes are not sent yet."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 0
        self.high: int | None = None
        self.is_aborted = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.high = high

    def get_write_buffer_size(self) -> int:
        return self.size

    def abort(self) -> None:
        self.is_aborted = True


class Case:
    """A protocol that drops who reads nothing for 50 ms."""

    def __init__(self) -> None:
        self.transport = Transport()
        made = with_write_timeout(Base, 0.05)()
        assert isinstance(made, Base)
        self.protocol = made
        self.protocol.connection_made(self.transport)

    async def until(self, condition: Callable[[], bool]) -> None:
        async def wait() -> None:
            while not condition():
                await asyncio.sleep(0.001)

        await asyncio.wait_for(wait(), 20)


def run(work: Callable[[Case], Awaitable[None]]) -> None:
    async def main() -> None:
        await work(Case())

    asyncio.run(main())


def test_who_reads_nothing_is_dropped() -> None:
    async def work(case: Case) -> None:
        assert case.transport.high == 0, "a pause begins with the first byte that is not sent"
        case.transport.size = 1000
        case.protocol.pause_writing()
        await case.until(lambda: case.transport.is_aborted)
        assert case.protocol.calls == ["made", "pause"]

    run(work)


def test_who_reads_slowly_is_not() -> None:
    async def work(case: Case) -> None:
        case.transport.size = 1000
        case.protocol.pause_writing()
        timers = []
        for _ in range(5):
            timer = case.protocol._timer  # type: ignore[attr-defined]
            case.transport.size -= 1
            await case.until(lambda timer=timer: case.protocol._timer is not timer)  # type: ignore[attr-defined,misc]
            timers.append(timer)
        assert len(set(timers)) == 5 and not case.transport.is_aborted
        case.protocol.resume_writing()
        assert case.protocol._timer is None  # type: ignore[attr-defined]
        assert case.protocol.calls == ["made", "pause", "resume"]

    run(work)


def test_who_leaves_leaves_no_timer() -> None:
    async def work(case: Case) -> None:
        case.protocol.connection_lost(None)
        case.protocol.pause_writing()
        case.protocol.connection_lost(None)
        assert case.protocol._timer is None  # type: ignore[attr-defined]

    run(work)
