"""Engines that fail, and what is done about it: with engines, clocks and pauses of the tests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future

import pytest

from lepton_ai.errors import EngineDied, InvalidModel, LeptonError
from lepton_ai.serve.life.crashes import Crashes
from lepton_ai.serve.life.options import LifeOptions
from lepton_ai.serve.life.state import Life, Phase
from lepton_ai.serve.life.supervisor import Supervisor


class FakeEngine:
    def __init__(self) -> None:
        self.ended: Future[LeptonError] = Future()
        self.is_silent = False
        self.num_pings = 0
        self.is_closed = False

    def ping(self) -> Future[object]:
        if self.ended.done():
            raise self.ended.result()
        self.num_pings += 1
        pong: Future[object] = Future()
        if not self.is_silent:
            pong.set_result(None)
        return pong

    def crash(self, message: str = "crashed") -> None:
        self.ended.set_result(EngineDied(message))

    def kill(self) -> None:
        self.crash("killed")

    async def close(self) -> None:
        self.is_closed = True


class Stage:
    """A supervisor, what it started, and how long it paused. ``failures`` are raised by the next starts."""

    def __init__(self, **options: float) -> None:
        self.now = 0.0
        self.engines: list[FakeEngine] = []
        self.installed: list[FakeEngine] = []
        self.failures: list[LeptonError] = []
        self.pauses: list[float] = []
        self.life = Life(Phase.STARTING)
        self.phases: list[Phase] = []
        made = LifeOptions(**options)  # type: ignore[arg-type]
        self.supervisor = Supervisor(
            self._start, self.installed.append, self.life, made, clock=lambda: self.now, sleep=self._sleep
        )

    async def _start(self) -> FakeEngine:
        self.now += 2.5
        self.phases.append(self.life.phase)
        if self.failures:
            raise self.failures.pop(0)
        self.engines.append(FakeEngine())
        return self.engines[-1]

    async def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def run(self, work: Callable[[Stage], Awaitable[None]]) -> None:
        async def main() -> None:
            async with self.supervisor:
                await self.supervisor.start()
                watching = asyncio.create_task(self.supervisor.watch())
                await work(self)
                watching.cancel()
                await asyncio.wait((watching,))
            assert all(engine.is_closed for engine in self.engines)

        asyncio.run(main())

    async def until(self, condition: Callable[[], bool]) -> None:
        async def wait() -> None:
            while not condition():
                await asyncio.sleep(0.001)

        await asyncio.wait_for(wait(), 20)


def test_an_engine_that_ends_is_replaced() -> None:
    async def work(stage: Stage) -> None:
        assert stage.life.is_ready and stage.installed == stage.engines
        stage.engines[0].crash()
        await stage.until(lambda: len(stage.installed) == 2)
        assert stage.life.is_ready and stage.engines[0].is_closed
        assert stage.phases == [Phase.STARTING, Phase.ENGINE_RESTARTING] and stage.pauses == [0.0]

    Stage().run(work)


def test_who_asks_meanwhile_is_told_how_long_it_takes() -> None:
    async def work(stage: Stage) -> None:
        seen: list[int] = []
        start = stage._start

        async def start_slowly() -> FakeEngine:
            with pytest.raises(LeptonError) as raised:
                stage.life.check_engine()
            seen.append(getattr(raised.value, "retry_after_s", -1))
            return await start()

        stage.supervisor._start = start_slowly
        for count in (2, 3):
            stage.engines[-1].crash()
            await stage.until(lambda count=count: len(stage.installed) == count)  # type: ignore[misc]
        assert seen == [3, 4], "2.5 s for loading, and a second before the next attempt"
        stage.life.check_engine()

    Stage().run(work)


def test_a_silent_engine_is_ended_and_replaced() -> None:
    async def work(stage: Stage) -> None:
        await stage.until(lambda: stage.engines[0].num_pings > 2)
        assert len(stage.engines) == 1
        stage.engines[0].is_silent = True
        await stage.until(lambda: len(stage.installed) == 2)
        assert stage.engines[0].ended.result().message == "killed"

    Stage(engine_timeout_s=0.02).run(work)


@pytest.mark.parametrize("num_turns", range(5))
def test_who_is_cancelled_as_an_answer_comes_ends(num_turns: int) -> None:
    async def main() -> None:
        stage = Stage(engine_timeout_s=1000.0)
        async with stage.supervisor:
            await stage.supervisor.start()
            (engine,) = stage.engines
            pongs: list[Future[object]] = []

            def ping() -> Future[object]:
                pongs.append(Future())
                pongs[-1].set_running_or_notify_cancel()
                return pongs[-1]

            engine.ping = ping  # type: ignore[method-assign]
            watching = asyncio.create_task(stage.supervisor.watch())
            await stage.until(lambda: bool(pongs))
            await asyncio.sleep(0)
            pongs[0].set_result(None)
            for _ in range(num_turns):
                await asyncio.sleep(0)
            watching.cancel()
            await asyncio.wait((watching,), timeout=5)
            assert watching.cancelled()

    asyncio.run(main())


def test_a_start_that_fails_is_tried_again_later() -> None:
    async def work(stage: Stage) -> None:
        stage.failures = [InvalidModel("gone"), InvalidModel("still gone")]
        stage.engines[0].crash()
        await stage.until(lambda: len(stage.installed) == 2)
        assert stage.pauses == [0.0, 1.0, 2.0] and stage.life.is_ready

    Stage().run(work)


def test_after_too_many_failures_the_server_ends() -> None:
    async def main() -> None:
        stage = Stage(max_crashes=3)
        async with stage.supervisor:
            await stage.supervisor.start()
            stage.failures = [InvalidModel(f"gone {i}") for i in range(9)]
            stage.engines[0].crash()
            with pytest.raises(EngineDied, match="failed too often in a short time, lastly: gone 2"):
                await asyncio.wait_for(stage.supervisor.watch(), 20)
        assert stage.pauses == [0.0, 1.0, 2.0] and not stage.life.is_ready

    asyncio.run(main())


def test_the_first_start_is_not_tried_again() -> None:
    async def main() -> None:
        stage = Stage()
        stage.failures = [InvalidModel("none")]
        with pytest.raises(InvalidModel):
            await stage.supervisor.start()
        assert stage.pauses == [] and stage.life.phase is Phase.STARTING

    asyncio.run(main())


def test_what_drains_gets_no_new_engine() -> None:
    async def main() -> None:
        stage = Stage()
        async with stage.supervisor:
            await stage.supervisor.start()
            stage.life.drain()
            stage.engines[0].crash()
            await asyncio.wait_for(stage.supervisor.watch(), 20)
        assert len(stage.engines) == 1

    asyncio.run(main())


def test_pauses_grow_to_half_a_minute_and_old_failures_are_forgotten() -> None:
    crashes = Crashes(8, 300.0)
    assert [crashes.delay_s(float(t)) for t in range(9)] == [0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, None]
    assert crashes.delay_s(304.5) == 8.0, (
        "of nine, those of the first four seconds are forgotten, and that of the fifth"
    )
    assert crashes.delay_s(1000.0) == 0.0
