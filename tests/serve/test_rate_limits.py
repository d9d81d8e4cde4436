from __future__ import annotations

import pytest

from lepton_ai.serve.access.keys import Key, digest
from lepton_ai.serve.access.limits import Limits
from lepton_ai.serve.access.rate_limits import RateLimited, RateLimits


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def key_with(requests: int | None = None, tokens: int | None = None, name: str = "me") -> Key:
    return Key(name, digest(name), limits=Limits(requests, tokens))


def test_requests_of_a_minute() -> None:
    clock = Clock()
    limits, key = RateLimits(clock), key_with(requests=3)
    for left in ("2", "1", "0"):
        limits.admit(key)
        assert limits.headers(key)["x-ratelimit-remaining-requests"] == left
    with pytest.raises(RateLimited, match="requests: expected at most 3 in a minute") as raised:
        limits.admit(key)
    assert (raised.value.status, raised.value.code) == (429, "rate_limit_exceeded")
    assert raised.value.retry_after_s == pytest.approx(20)
    assert limits.headers(key) == {
        "x-ratelimit-limit-requests": "3",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "1m0s",
    }
    clock.now += 20
    limits.admit(key)
    with pytest.raises(RateLimited):
        limits.admit(key)


def test_a_refused_request_costs_nothing() -> None:
    clock = Clock()
    limits, key = RateLimits(clock), key_with(requests=1)
    limits.admit(key)
    for _ in range(100):
        with pytest.raises(RateLimited):
            limits.admit(key)
    clock.now += 60
    limits.admit(key)


def test_tokens_are_owed() -> None:
    clock = Clock()
    limits, key = RateLimits(clock), key_with(tokens=600)
    limits.admit(key)
    limits.charge(key, 1199)
    assert limits.headers(key) == {
        "x-ratelimit-limit-tokens": "600",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "1m59.9s",
    }
    with pytest.raises(RateLimited, match="tokens: expected at most 600 in a minute") as raised:
        limits.admit(key)
    assert raised.value.retry_after_s == pytest.approx(60)
    clock.now += 59.95
    with pytest.raises(RateLimited):
        limits.admit(key)
    clock.now += 0.1
    limits.admit(key)


def test_no_request_is_taken_where_no_token_is_left() -> None:
    clock = Clock()
    limits, key = RateLimits(clock), key_with(requests=2, tokens=60)
    limits.charge(key, 60)
    with pytest.raises(RateLimited, match="tokens"):
        limits.admit(key)
    assert limits.headers(key)["x-ratelimit-remaining-requests"] == "2"


def test_time_does_not_pile_up() -> None:
    clock = Clock()
    limits, key = RateLimits(clock), key_with(requests=2)
    clock.now += 10_000
    limits.admit(key)
    limits.admit(key)
    with pytest.raises(RateLimited):
        limits.admit(key)


def test_keys_do_not_share_and_no_limit_is_none() -> None:
    limits = RateLimits(Clock())
    limits.admit(key_with(requests=1, name="a"))
    limits.admit(key_with(requests=1, name="b"))
    free = key_with(name="c")
    for _ in range(1000):
        limits.admit(free)
        limits.charge(free, 10**9)
    assert limits.headers(free) == {}


def test_limits_that_change_apply_at_once() -> None:
    clock = Clock()
    limits = RateLimits(clock)
    limits.admit(key_with(requests=10))
    assert limits.headers(key_with(requests=4))["x-ratelimit-remaining-requests"] == "4"
    clock.now += 60
    assert limits.headers(key_with(requests=100))["x-ratelimit-remaining-requests"] == "100"


@pytest.mark.parametrize(
    ("used", "text"), [(0, "0ms"), (1, "10ms"), (99, "990ms"), (100, "1s"), (150, "1.5s"), (6000, "1m0s")]
)
def test_how_long_is_written(used: int, text: str) -> None:
    limits, key = RateLimits(Clock()), key_with(tokens=6000)
    limits.charge(key, used)
    assert limits.headers(key)["x-ratelimit-reset-tokens"] == text
