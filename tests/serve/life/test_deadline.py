"""How long a request may take, and what it says of it."""

from __future__ import annotations

import pytest

from lepton_ai.errors import InvalidRequest
from lepton_ai.serve.life.deadline import Deadline
from lepton_ai.serve.life.options import LifeOptions


@pytest.mark.parametrize(("value", "timeout_s"), [(None, 600.0), ("5", 5.0), ("0.25", 0.25), ("1e9", 600.0)])
def test_the_least_counts(value: str | None, timeout_s: float) -> None:
    deadline = Deadline.of_header(value, now=100.0, most_s=600.0)
    assert (deadline.at, deadline.timeout_s) == (100.0 + timeout_s, timeout_s)
    error = deadline.error()
    assert (error.status, error.code, error.param) == (504, "deadline_exceeded", "x-request-timeout")
    assert f"within {timeout_s:g} s" in error.message


@pytest.mark.parametrize("value", ["", "soon", "0", "-1", "nan", "inf", "1s", "x" * 999])
def test_what_is_no_time_is_refused(value: str) -> None:
    with pytest.raises(InvalidRequest, match="x-request-timeout: expected a positive number of seconds") as raised:
        Deadline.of_header(value, now=0.0, most_s=600.0)
    assert len(raised.value.message) < 120


@pytest.mark.parametrize("name", ["request_timeout_s", "engine_timeout_s", "max_crashes"])
def test_options_are_checked(name: str) -> None:
    with pytest.raises(InvalidRequest, match=f"{name}: expected a positive number, got 0"):
        LifeOptions(**{name: 0})
    assert LifeOptions(drain_timeout_s=0, drain_delay_s=0)
    with pytest.raises(InvalidRequest, match="drain_delay_s"):
        LifeOptions(drain_delay_s=-1)
