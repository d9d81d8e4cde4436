"""Steps in Chrome's trace event format, which Perfetto and ``chrome://tracing`` open.

The format: "Trace Event Format", https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from lepton_ai.cli.trace.summary import origin_s
from lepton_ai.engine.trace import StepTrace

_ENGINE, _REQUESTS = 1, 2
_STEPS = 1

Event = dict[str, object]


def chrome_trace(steps: Sequence[StepTrace], names: Mapping[int, str] | None = None) -> dict[str, object]:
    """The document: an object for ``json``. Two processes, the engine's steps and the requests, a thread for each."""
    events = [*_names(steps, names or {})]
    origin = origin_s(steps)
    for index, step in enumerate(steps):
        events += _of_engine(index, step, origin)
        events += _of_requests(step, origin)
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def _names(steps: Sequence[StepTrace], names: Mapping[int, str]) -> Iterator[Event]:
    yield _metadata("process_name", _ENGINE, _STEPS, "engine")
    yield _metadata("thread_name", _ENGINE, _STEPS, "steps")
    yield _metadata("process_name", _REQUESTS, 0, "requests")
    ran = {request.request_id for step in steps for request in step.requests}
    for request_id in sorted(ran | {arrival.request_id for step in steps for arrival in step.arrivals}):
        name = f"{request_id} {names.get(request_id, '')}".rstrip()
        yield _metadata("thread_name", _REQUESTS, request_id, name)


def _of_engine(index: int, step: StepTrace, origin: float) -> Iterator[Event]:
    """The step, its parts within it, and what is counted. Kernels come last in their part: inputs are made before."""
    start = step.start_s - origin
    yield _span(f"step {index}", _ENGINE, _STEPS, (start, step.end_s - step.start_s)) | {
        "args": {"prompt_tokens": step.prompt_tokens, "decode_tokens": step.decode_tokens}
    }
    kernels = min(sum(step.kernel_s.values()), step.execute_s)
    parts = (
        ("schedule", step.schedule_s),
        ("inputs and call", step.execute_s - kernels),
        ("kernels", kernels),
        ("update", step.update_s),
        ("text", step.deliver_s),
    )
    at = start
    for name, seconds in parts:
        span = _span(name, _ENGINE, _STEPS, (at, seconds))
        if name == "kernels":
            span["args"] = {f"{kind}_us": _us(taken) for kind, taken in step.kernel_s.items()}
        yield span
        at += seconds
    counts = {"running": step.stats.num_running, "waiting": step.stats.num_waiting}
    yield _event("requests", "C", _ENGINE, _STEPS, at) | {"args": counts}
    yield _event("KV blocks", "C", _ENGINE, _STEPS, at) | {"args": {"used": step.stats.kv_blocks_used}}


def _of_requests(step: StepTrace, origin: float) -> Iterator[Event]:
    start, seconds = step.start_s - origin, step.end_s - step.start_s
    for arrival in step.arrivals:
        at = arrival.at_s - origin
        args = {"prompt_tokens": arrival.prompt_tokens}
        yield _event("arrival", "i", _REQUESTS, arrival.request_id, at) | {"s": "t", "args": args}
    for request_id in step.preempted:
        yield _event("pre-emption", "i", _REQUESTS, request_id, start) | {"s": "t"}
    for request in step.requests:
        args = {"prompt_tokens": request.prompt_tokens, "decode_tokens": request.decode_tokens}
        name = "prompt" if request.prompt_tokens else "decode"
        yield _span(name, _REQUESTS, request.request_id, (start, seconds)) | {"args": args}


def _span(name: str, process: int, thread: int, times: tuple[float, float]) -> Event:
    """A complete event: its start and its length in seconds."""
    return _event(name, "X", process, thread, times[0]) | {"dur": _us(times[1])}


def _metadata(name: str, process: int, thread: int, value: str) -> Event:
    return {"name": name, "ph": "M", "pid": process, "tid": thread, "args": {"name": value}}


def _event(name: str, phase: str, process: int, thread: int, at_s: float) -> Event:
    return {"name": name, "ph": phase, "pid": process, "tid": thread, "ts": _us(at_s)}


def _us(seconds: float) -> float:
    return round(1e6 * seconds, 3)
