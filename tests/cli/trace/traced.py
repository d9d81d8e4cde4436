"""Steps as an engine would tell of them."""

from __future__ import annotations

from lepton_ai.engine.histogram import Distribution
from lepton_ai.engine.stats import EngineStats
from lepton_ai.engine.trace import Arrival, RequestStep, StepTrace

NOTHING = Distribution((1.0,), (0, 0), 0.0)
STATS = EngineStats(
    num_running=2,
    num_waiting=1,
    num_paused=0,
    num_steps=1,
    num_preemptions=0,
    prompt_tokens=0,
    cached_tokens=0,
    computed_tokens=0,
    output_tokens=0,
    finished={},
    kv_blocks=8,
    kv_blocks_used=2,
    step_tokens=NOTHING,
    queue_s=NOTHING,
    prefill_s=NOTHING,
    decode_s=NOTHING,
    inference_s=NOTHING,
)


def step(
    start_s: float,
    *requests: tuple[int, int, int],
    arrivals: tuple[Arrival, ...] = (),
    preempted: tuple[int, ...] = (),
) -> StepTrace:
    """A step of 8 s, 6 of them in kernels. Requests are a number, prompt and decode tokens; each has a row."""
    return StepTrace(
        start_s=start_s,
        schedule_s=0.5,
        execute_s=6.75,
        update_s=0.25,
        deliver_s=0.5,
        kernel_s={"linear": 4.0, "attend": 0.75, "attend_merge": 0.25, "norm": 0.5, "sample": 0.5},
        requests=tuple(RequestStep(*request, has_row=True) for request in requests),
        arrivals=arrivals,
        preempted=preempted,
        stats=STATS,
    )


def some_steps() -> list[StepTrace]:
    """Request 3 runs through, 4 is pre-empted in step 2 and comes back in step 4, 5 comes last and has to wait.

    Steps take 8 s and start every 10 s from 100 on; the first request came at 99.
    """
    return [
        step(100.0, (3, 30, 0), (4, 10, 0), arrivals=(Arrival(3, 99.0, 30), Arrival(4, 99.5, 10))),
        step(110.0, (3, 0, 1), (4, 0, 1), arrivals=(Arrival(5, 109.0, 7),)),
        step(120.0, (3, 0, 1), preempted=(4,)),
        step(130.0, (3, 0, 1)),
        step(140.0, (4, 11, 1), (5, 7, 0)),
        step(150.0, (4, 0, 1), (5, 0, 1)),
    ]
