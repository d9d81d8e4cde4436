"""Draining, with requests of the tests."""

from __future__ import annotations

import asyncio

import pytest

from lepton_ai.errors import LeptonError
from lepton_ai.serve.admission.admission import Admission, Claim
from lepton_ai.serve.admission.options import AdmissionOptions
from lepton_ai.serve.life.deadline import Deadline, DeadlineExceeded
from lepton_ai.serve.life.options import LifeOptions
from lepton_ai.serve.life.shutdown import drain
from lepton_ai.serve.life.state import Life, Phase, ShuttingDown, Starting
from lepton_ai.serve.life.work import Desk

CLAIM = Claim("m", "", 1, 10)


def make_desk() -> Desk:
    return Desk(Admission(AdmissionOptions(), num_seats=4), Life())


async def answer(desk: Desk, until: asyncio.Event) -> str:
    """A request, as a route has it."""
    with desk.life.request(), desk.begin(CLAIM, None) as work:
        await work.run(_wait(until))
        return "answered"


async def _wait(until: asyncio.Event) -> None:
    await until.wait()


def test_what_was_taken_is_finished() -> None:
    async def main() -> None:
        desk, may_end = make_desk(), asyncio.Event()
        requests = [asyncio.create_task(answer(desk, may_end)) for _ in range(3)]
        await asyncio.sleep(0)
        draining = asyncio.create_task(drain(desk, LifeOptions()))
        await asyncio.sleep(0)
        refusal = desk.life.refusal()
        assert isinstance(refusal, ShuttingDown) and not draining.done()
        may_end.set()
        assert await asyncio.gather(*requests) == ["answered"] * 3
        assert await draining is True and desk.admission.num_texts == desk.num_works == 0

    asyncio.run(main())


def test_what_is_not_finished_in_time_is_answered() -> None:
    async def main() -> None:
        desk = make_desk()
        request = asyncio.create_task(answer(desk, asyncio.Event()))
        await asyncio.sleep(0)
        assert await drain(desk, LifeOptions(drain_timeout_s=0.05)) is True
        with pytest.raises(ShuttingDown, match="the server ends before the answer is complete"):
            await request
        assert desk.admission.num_texts == desk.num_works == 0

    asyncio.run(main())


def test_who_does_not_take_the_answer_is_told_of() -> None:
    async def main() -> None:
        desk = make_desk()
        with desk.life.request():
            assert await drain(desk, LifeOptions(drain_timeout_s=0.05)) is False

    asyncio.run(main())


@pytest.mark.parametrize(("delay_s", "seconds"), [(0.0, 0.0), (0.2, 0.2)])
def test_without_requests_it_takes_the_delay(delay_s: float, seconds: float) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert await drain(make_desk(), LifeOptions(drain_timeout_s=0, drain_delay_s=delay_s)) is True
        assert seconds <= loop.time() - began < seconds + 10

    asyncio.run(main())


def test_a_life_goes_on_but_never_back() -> None:
    life = Life(Phase.STARTING)
    assert isinstance(life.refusal(), Starting) and not life.is_ready
    life.begin()
    assert life.refusal() is None and life.is_ready
    life.lose_engine(7)
    assert life.refusal() is None and not life.is_ready
    with pytest.raises(LeptonError) as raised:
        life.check_engine()
    assert (raised.value.status, raised.value.code) == (503, "engine_restarting")
    assert getattr(raised.value, "retry_after_s", None) == 7
    life.drain()
    life.begin()
    life.lose_engine(1)
    assert life.phase is Phase.DRAINING and isinstance(life.refusal(), ShuttingDown)
    life.check_engine()


def test_a_deadline_ends_the_work_and_gives_back_its_room() -> None:
    async def main() -> None:
        desk, loop = make_desk(), asyncio.get_running_loop()
        was_cancelled = asyncio.Event()

        async def work_on() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                was_cancelled.set()

        with pytest.raises(DeadlineExceeded), desk.begin(CLAIM, Deadline(loop.time() + 0.02, 0.02)) as work:
            await work.run(work_on())
        assert was_cancelled.is_set() and desk.admission.num_texts == 0

    asyncio.run(main())


def test_who_is_late_already_never_runs() -> None:
    async def main() -> None:
        desk = make_desk()
        with pytest.raises(DeadlineExceeded):
            desk.begin(CLAIM, Deadline(asyncio.get_running_loop().time(), 1.0))
        assert desk.admission.num_texts == 0

    asyncio.run(main())


def test_a_client_that_leaves_cancels_and_gives_back(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        desk = make_desk()
        request = asyncio.create_task(answer(desk, asyncio.Event()))
        await asyncio.sleep(0)
        assert (desk.admission.num_texts, desk.life.num_requests) == (1, 1)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        assert (desk.admission.num_texts, desk.life.num_requests, desk.num_works) == (0, 0, 0)

    asyncio.run(main())
    assert caplog.records == []
