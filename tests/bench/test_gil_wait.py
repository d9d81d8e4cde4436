from __future__ import annotations

import json
import threading

import pytest
from bench.gil_wait import BODY_BYTES, distribution, make_body, outside_kernels, parsing_process, parsing_thread
from tests.cli.trace.traced import step


def test_what_a_step_takes_outside_kernels() -> None:
    # Steps of 8 s with 6 s of kernels: 2 s of Python, and a gap before the third.
    steps = [step(100.0, (0, 0, 1)), step(108.0, (0, 0, 1)), step(119.0, (0, 0, 1))]
    assert outside_kernels(steps) == [2.0, 5.0]
    found = distribution([0.001] * 98 + [0.003] * 2)
    assert (found.median, found.most) == pytest.approx((1.0, 3.0)) and 1.0 < found.p99 <= 3.0


def test_a_body_has_the_size_that_is_said() -> None:
    body = make_body(BODY_BYTES)
    assert BODY_BYTES <= len(body) < 1.01 * BODY_BYTES
    assert json.loads(body)["messages"][-1]["role"] == "user"


def test_parsers_end_with_what_they_disturb() -> None:
    before = threading.active_count()
    with parsing_thread("[1]"):
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
    with pytest.raises(ValueError, match="inside"), parsing_process("[1]"):
        raise ValueError("inside")
