from __future__ import annotations

from itertools import pairwise

import pytest
from tests.cli.trace.traced import some_steps, step

from lepton_ai.cli.trace.summary import summarize
from lepton_ai.cli.trace.timeline import Bar, BarKind, make_timeline
from lepton_ai.engine.trace import Arrival

WAITING, PROMPT, DECODE = BarKind.WAITING, BarKind.PROMPT, BarKind.DECODE


def test_bars_of_requests() -> None:
    timeline = make_timeline(some_steps(), {4: "chat"})
    assert (timeline.origin_s, timeline.seconds) == (99.0, 59.0)
    first, second, third = timeline.lanes
    assert [(lane.request_id, lane.name, lane.prompt_tokens, lane.output_tokens) for lane in timeline.lanes] == [
        (3, "", 30, 4),
        (4, "chat", 10, 4),
        (5, "", 7, 2),
    ]
    assert first.bars == [
        Bar(WAITING, 0.0, 1.0),
        Bar(PROMPT, 1.0, 9.0, num_steps=1, num_tokens=30),
        Bar(DECODE, 11.0, 39.0, num_steps=3, num_tokens=3),
    ]
    assert second.bars == [
        Bar(WAITING, 0.5, 1.0),
        Bar(PROMPT, 1.0, 9.0, num_steps=1, num_tokens=10),
        Bar(DECODE, 11.0, 19.0, num_steps=1, num_tokens=1),
        Bar(WAITING, 19.0, 41.0),
        Bar(PROMPT, 41.0, 49.0, num_steps=1, num_tokens=11),
        Bar(DECODE, 51.0, 59.0, num_steps=1, num_tokens=1),
    ]
    assert (first.preempted_s, second.preempted_s) == ([], [21.0])
    assert second.computed_prompt_tokens == 21
    assert third.bars[0] == Bar(WAITING, 10.0, 41.0)


def test_requests_from_before_and_those_that_never_ran() -> None:
    timeline = make_timeline([step(10.0, (0, 0, 1), arrivals=(Arrival(1, 9.0, 5),)), step(20.0, (0, 0, 1))])
    before, never = timeline.lanes
    assert before.prompt_tokens is None and before.bars == [Bar(DECODE, 1.0, 19.0, num_steps=2, num_tokens=2)]
    assert never.output_tokens == 0 and never.bars == [Bar(WAITING, 0.0, 19.0)]


@pytest.mark.parametrize(
    ("min_seconds", "sizes"), [(1.0, [1] * 6), (10.0, [1] * 5 + [1]), (20.0, [2, 2, 2]), (1e9, [6])]
)
def test_columns_hold_every_step_once(min_seconds: float, sizes: list[int]) -> None:
    steps = some_steps()
    columns = list(make_timeline(steps).columns(min_seconds))
    assert [len(column.steps) for column in columns] == sizes
    assert [s for column in columns for s in column.steps] == steps
    assert [column.first_step for column in columns] == [sum(sizes[:n]) for n in range(len(sizes))]
    assert columns[0].start_s == 1.0 and columns[-1].end_s == 59.0
    assert all(a.end_s == b.start_s for a, b in pairwise(columns))


def test_where_the_time_went() -> None:
    summary = summarize(some_steps())
    assert summary.to_dict() == {
        "num_requests": 3,
        "num_steps": 6,
        "prompt_tokens": 58,
        "decode_tokens": 7,
        "num_preemptions": 1,
        "seconds": 59.0,
        "kernel_share": 36 / 59,
        "python_share": 12 / 59,
        "waiting_share": pytest.approx(11 / 59),
        "kernel_s": {"matrix products": 24.0, "attention": 6.0, "other ops": 6.0},
        "python_s": {"schedule": 3.0, "inputs and call": 4.5, "update": 1.5, "text": 3.0},
    }
