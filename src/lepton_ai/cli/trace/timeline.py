"""Steps of an engine as what a picture shows: a lane of bars for each request, and columns of what all did together."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from lepton_ai.cli.trace.summary import TimeSplit, origin_s, split_time
from lepton_ai.engine.trace import RequestStep, StepTrace


class BarKind(enum.Enum):
    """What a request did for a while."""

    WAITING = "waiting"
    PROMPT = "prompt"
    DECODE = "decode"


@dataclass(frozen=True, slots=True)
class Bar:
    """A stretch of one request's time, in seconds since the beginning: a piece of its prompt, or some decode steps.

    While it waits, no steps and tokens are counted.
    """

    kind: BarKind
    start_s: float
    end_s: float
    num_steps: int = 0
    num_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Lane:
    """One request. ``prompt_tokens`` is None if it came before the first step; ``preempted_s`` are times."""

    request_id: int
    name: str
    prompt_tokens: int | None
    output_tokens: int
    bars: Sequence[Bar]
    preempted_s: Sequence[float]

    @property
    def computed_prompt_tokens(self) -> int:
        """Those that were not found in the cache; more than the prompt has if it was computed again."""
        return sum(bar.num_tokens for bar in self.bars if bar.kind is BarKind.PROMPT)


@dataclass(frozen=True, slots=True)
class Column:
    """Some steps next to each other, from number ``first_step``, until the next column begins."""

    start_s: float
    end_s: float
    first_step: int
    steps: Sequence[StepTrace]
    time: TimeSplit


@dataclass(frozen=True, slots=True)
class Timeline:
    """``lanes`` in the order of coming; ``seconds`` in all. Times of ``steps`` are as the engine gave them."""

    steps: Sequence[StepTrace]
    lanes: Sequence[Lane]
    origin_s: float
    seconds: float

    def columns(self, min_seconds: float) -> Iterator[Column]:
        """All steps, in columns of at least that width, but perhaps for the last."""
        first = 0
        for index in range(1, len(self.steps) + 1):
            start = self.steps[first].start_s
            end = self.steps[index].start_s if index < len(self.steps) else self.origin_s + self.seconds
            if end - start >= min_seconds or index == len(self.steps):
                steps = self.steps[first:index]
                time = split_time(steps, end - start)
                yield Column(start - self.origin_s, end - self.origin_s, first, steps, time)
                first = index


def make_timeline(steps: Sequence[StepTrace], names: Mapping[int, str] | None = None) -> Timeline:
    """Lay out steps in their order, at least one. ``names`` say what requests are, by their number."""
    origin = origin_s(steps)
    lanes: dict[int, _OpenLane] = {}
    for index, step in enumerate(steps):
        for arrival in step.arrivals:
            lanes[arrival.request_id] = _OpenLane(arrival.at_s - origin, prompt_tokens=arrival.prompt_tokens)
        start, end = step.start_s - origin, step.end_s - origin
        for request_id in step.preempted:
            lanes.setdefault(request_id, _OpenLane(start)).preempted_s.append(start)
        for request in step.requests:
            lanes.setdefault(request.request_id, _OpenLane(start)).run(request, index, (start, end))
    seconds = steps[-1].end_s - origin
    known = names or {}
    made = [lane.close(number, known.get(number, ""), seconds) for number, lane in sorted(lanes.items())]
    return Timeline(steps, made, origin, seconds)


@dataclass(slots=True)
class _OpenLane:
    """A lane that grows: the last bar ends at ``end_s``, with step ``last_step``."""

    end_s: float
    prompt_tokens: int | None = None
    output_tokens: int = 0
    last_step: int = -1
    bars: list[Bar] = field(default_factory=list)
    preempted_s: list[float] = field(default_factory=list)

    def run(self, request: RequestStep, index: int, times: tuple[float, float]) -> None:
        """Add its part of step ``index``. Decode steps next to each other become one bar."""
        start, end = times
        is_next = bool(self.bars) and self.last_step == index - 1
        if not is_next and start > self.end_s:
            self.bars.append(Bar(BarKind.WAITING, self.end_s, start))
        if request.prompt_tokens:
            self.bars.append(Bar(BarKind.PROMPT, start, end, 1, request.prompt_tokens))
        elif is_next and self.bars[-1].kind is BarKind.DECODE:
            last = self.bars.pop()
            num_tokens = last.num_tokens + request.decode_tokens
            self.bars.append(Bar(BarKind.DECODE, last.start_s, end, last.num_steps + 1, num_tokens))
        else:
            self.bars.append(Bar(BarKind.DECODE, start, end, 1, request.decode_tokens))
        self.output_tokens += request.has_row
        self.last_step, self.end_s = index, end

    def close(self, request_id: int, name: str, seconds: float) -> Lane:
        """A request that never ran waits to the end."""
        if not self.bars:
            self.bars.append(Bar(BarKind.WAITING, self.end_s, seconds))
        return Lane(request_id, name, self.prompt_tokens, self.output_tokens, self.bars, self.preempted_s)
