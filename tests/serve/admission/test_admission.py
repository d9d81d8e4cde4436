"""Who is let in, and when the others are told to come again: exact numbers, with a clock of the tests."""

from __future__ import annotations

import math

import pytest

from lepton_ai.errors import InvalidRequest
from lepton_ai.serve.admission.admission import Admission, Claim, Permit, QueueFull
from lepton_ai.serve.admission.drain_rate import DrainRate
from lepton_ai.serve.admission.options import AdmissionOptions


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def admission(clock: Clock, *, seats: int = 2, waiting: int = 3, work: int | None = None) -> Admission:
    return Admission(AdmissionOptions(max_waiting=waiting, max_work=work), num_seats=seats, clock=clock)


def claim(num_texts: int = 1, work: int = 10, *, tenant: str = "", model: str = "m") -> Claim:
    return Claim(model, tenant, num_texts, work)


def admit(made: Admission, count: int, *, tenant: str = "", model: str = "m") -> list[Permit]:
    return [made.admit(claim(tenant=tenant, model=model)) for _ in range(count)]


def test_what_waits_is_bounded(clock: Clock) -> None:
    made = admission(clock)
    permits = admit(made, 5)
    assert (made.num_texts, made.num_waiting, made.work) == (5, 3, 50)
    with pytest.raises(QueueFull, match="3 wait already, of at most 3; try again in 5 s") as raised:
        made.admit(claim())
    assert (raised.value.status, raised.value.code, raised.value.retry_after_s) == (429, "queue_full", 5)
    permits[0].release()
    permits[0].release()
    assert (made.num_texts, made.num_waiting, made.work) == (4, 2, 40)
    made.admit(claim())
    with pytest.raises(QueueFull):
        made.admit(claim())


def test_a_permit_is_given_back_once_whatever_happens(clock: Clock) -> None:
    made = admission(clock)
    with pytest.raises(ZeroDivisionError), made.admit(claim()) as permit:
        raise ZeroDivisionError
    permit.release()
    assert (made.num_texts, made.work) == (0, 0)


def test_several_texts_take_several_seats(clock: Clock) -> None:
    made = admission(clock)
    made.admit(claim(4))
    assert made.num_waiting == 2
    with pytest.raises(QueueFull):
        made.admit(claim(2))
    made.admit(claim(1))


def test_what_is_larger_than_the_queue_runs_when_nothing_else_does(clock: Clock) -> None:
    made = admission(clock)
    with made.admit(claim(100)):
        assert made.num_waiting == 98
    with made.admit(claim()), pytest.raises(QueueFull):
        made.admit(claim(100))


def test_models_have_seats_of_their_own_and_one_queue(clock: Clock) -> None:
    made = admission(clock)
    admit(made, 5, model="a")
    admit(made, 2, model="b")
    with pytest.raises(QueueFull):
        made.admit(claim(model="b"))


def test_nothing_may_wait(clock: Clock) -> None:
    made = admission(clock, waiting=0)
    permits = admit(made, 2)
    with pytest.raises(QueueFull):
        made.admit(claim())
    permits[1].release()
    made.admit(claim())


def test_work_is_bounded_where_something_waits(clock: Clock) -> None:
    made = admission(clock, work=100)
    permit = made.admit(claim(work=90))
    made.admit(claim(work=70))  # it has a seat: nobody waits for anybody
    with pytest.raises(QueueFull, match="161 tokens of work are to do with these 1, of at most 100"):
        made.admit(claim(work=1))
    permit.release()
    made.admit(claim(work=20))
    made.admit(claim(work=10))
    assert (made.work, made.num_waiting) == (100, 1)


def test_a_look_before_tokens_are_counted(clock: Clock) -> None:
    made = admission(clock, work=100)
    made.check("m", 10**6)
    admit(made, 2)
    made.check("m", 80)
    with pytest.raises(QueueFull):
        made.check("m", 81)
    made.check("other", 10**6)
    assert made.work == 20, "a look takes no room"


def test_when_to_come_again(clock: Clock) -> None:
    made = admission(clock)
    first, *_ = [made.admit(claim(work=200)) for _ in range(5)]
    clock.now += 4
    first.release()  # 200 tokens in 4 s of work
    made.admit(claim(work=200))
    with pytest.raises(QueueFull) as raised:
        made.admit(claim())
    assert raised.value.retry_after_s == 4, "one text of 200 tokens has to end"
    with pytest.raises(QueueFull) as raised:
        made.admit(claim(3))
    assert raised.value.retry_after_s == 12
    with pytest.raises(QueueFull) as raised:
        made.admit(claim(60))
    assert raised.value.retry_after_s == 60, "clients heed no more"


def test_come_again_at_once_is_a_second(clock: Clock) -> None:
    made = admission(clock, work=30)
    first, *_ = admit(made, 3)
    clock.now += 0.001
    first.release()
    made.admit(claim())
    with pytest.raises(QueueFull) as raised:
        made.admit(claim())
    assert raised.value.retry_after_s == 1


def test_keys_share_the_places(clock: Clock) -> None:
    made = admission(clock, seats=2, waiting=6)
    admit(made, 8, tenant="a")  # alone, it may have them all
    with pytest.raises(QueueFull, match="6 wait already"):
        made.admit(claim(tenant="b"))
    assert made.num_texts == 8


def test_who_has_more_than_a_share_gets_none_until_others_had_theirs(clock: Clock) -> None:
    made = admission(clock, seats=2, waiting=6)
    permits = admit(made, 8, tenant="a")
    with pytest.raises(QueueFull):
        made.admit(claim(tenant="b"))  # and so it is known that "b" wants some
    for permit in permits[:2]:
        permit.release()
    with pytest.raises(QueueFull, match="2 share the places, and 4 are for each"):
        made.admit(claim(tenant="a"))
    admit(made, 2, tenant="b")
    for permit in permits[2:5]:
        permit.release()
    made.admit(claim(tenant="a"))
    with pytest.raises(QueueFull, match="2 share"):
        made.admit(claim(tenant="a"))
    clock.now += 61  # nobody else has asked for a minute
    admit(made, 2, tenant="a")


def test_a_free_seat_is_for_anyone(clock: Clock) -> None:
    made = admission(clock, seats=4, waiting=0)
    made.admit(claim(tenant="b")).release()
    admit(made, 4, tenant="a")


def test_the_rate_forgets(clock: Clock) -> None:
    rate = DrainRate()
    assert rate.seconds(100) is None
    rate.begin(0.0)
    rate.end(100, 10.0, is_last=True)
    assert rate.seconds(100) == pytest.approx(10.0)
    rate.begin(1000.0)  # idle time is none
    rate.end(300, 1010.0, is_last=False)
    kept = math.exp(-10 / 60)
    assert rate.seconds(100) == pytest.approx(100 * (10 * kept + 10) / (100 * kept + 300))
    rate.end(600, 1610.0, is_last=True)
    assert rate.seconds(600) == pytest.approx(600.0, rel=0.01)


@pytest.mark.parametrize("bad", [{"max_waiting": -1}, {"max_work": 0}])
def test_options_are_checked(bad: dict[str, int]) -> None:
    with pytest.raises(InvalidRequest, match="expected at least"):
        AdmissionOptions(**bad)
