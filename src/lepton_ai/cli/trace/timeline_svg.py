"""A timeline as a picture: time runs to the right, a row for each request, and below what the engine did as a whole."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lepton_ai.cli.svg import Svg, number, round_step
from lepton_ai.cli.trace.summary import ATTENTION, KERNELS, OTHER_OPS, PRODUCTS, PYTHON, TraceSummary
from lepton_ai.cli.trace.timeline import Bar, BarKind, Column, Lane, Timeline

WIDTH = 1200
_LEFT, _RIGHT = 210, 16
_PLOT = WIDTH - _LEFT - _RIGHT
_TOP, _AXIS, _BOTTOM = 84, 22, 14
_GAP = 3
_CHART_HEIGHT, _CHART_GAP = 58, 16
_MIN_COLUMN = 4
"""Pixels: narrower columns, of a step each, could not be told apart, and a picture of many steps would be large."""
_LOOK = """
text{font:11px system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;fill:#222}
.page{fill:#fff}.title{font-size:16px;font-weight:600}.quiet{fill:#666}.small{font-size:9px}
.right{text-anchor:end}.middle{text-anchor:middle}.grid{stroke:#e3e3e3;fill:none}.frame{stroke:#bbb;fill:none}
.row{fill:#f7f7f7}.waiting{fill:url(#waiting)}.prompt{fill:#3b73b9}.decode{fill:#f2a33a}
.preempted{stroke:#c8102e;stroke-width:2;fill:none}.hit{fill:transparent}.hit:hover{fill:#0001}
.k0{fill:#2f7d4f}.k1{fill:#8fc79f}.k2{fill:#c9cdd2}.p0{fill:#6b3fa0}.p1{fill:#a888cf}.p2{fill:#d4458b}.p3{fill:#f0a9ca}
.memory{fill:#8b97a5}.part{shape-rendering:crispEdges}
"""
_HATCH = (
    '<pattern id="waiting" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<rect width="5" height="5" fill="#ececec"/><rect width="1.5" height="5" fill="#bdbdbd"/></pattern>'
)


def draw_timeline(timeline: Timeline, summary: TraceSummary, title: str) -> str:
    """The picture as an SVG document. The pointer gets numbers from each bar and each column of the charts."""
    return _Picture(timeline, title).draw(summary)


@dataclass(frozen=True, slots=True)
class _Series:
    """A part of a chart: a value for each column, drawn on top of the series before it."""

    name: str
    css: str
    values: Sequence[float]


class _Picture:
    def __init__(self, timeline: Timeline, title: str) -> None:
        self._timeline = timeline
        self._title = title
        self._scale = _PLOT / max(timeline.seconds, 1e-9)
        self._columns = list(timeline.columns(_MIN_COLUMN / self._scale))
        self._row = next(height for most, height in ((16, 18), (32, 14), (math.inf, 10)) if len(timeline.lanes) <= most)
        self._charts_top = _TOP + len(timeline.lanes) * (self._row + _GAP) + _AXIS + _CHART_GAP
        height = self._charts_top + 4 * (_CHART_HEIGHT + _CHART_GAP) + _BOTTOM
        self._svg = Svg(WIDTH, height, title=title, style=_LOOK, definitions=_HATCH)
        self._svg.rect(0, 0, WIDTH, height, css="page")

    def draw(self, summary: TraceSummary) -> str:
        self._draw_head(summary)
        self._draw_axis()
        for index, lane in enumerate(self._timeline.lanes):
            self._draw_lane(lane, _TOP + index * (self._row + _GAP))
        self._draw_charts()
        return self._svg.to_text()

    def _x(self, seconds: float) -> float:
        return _LEFT + seconds * self._scale

    def _draw_head(self, summary: TraceSummary) -> None:
        svg = self._svg
        svg.text(16, 24, self._title, css="title")
        svg.text(16, 42, describe(summary), css="text")
        svg.text(16, _TOP - 8, "request, prompt + output tokens", css="quiet")
        x, y = _LEFT, _TOP - 18
        for css, name, width in (
            ("prompt", "a piece of a prompt, one step", 190),
            ("decode", "decoding, a token a step", 160),
            ("waiting", "waiting", 75),
        ):
            svg.rect(x, y, 14, 10, css=css)
            svg.text(x + 19, y + 9, name, css="text")
            x += width
        svg.path(_cross(x + 6, y + 5, 4), css="preempted")
        svg.text(x + 17, y + 9, "pre-empted: makes room for another, and begins again later", css="text")

    def _draw_axis(self) -> None:
        """Lines over lanes and charts, with times between the two."""
        seconds = self._timeline.seconds
        step = round_step(seconds / 10)
        unit, factor, digits = ("s", 1.0, max(0, -math.floor(math.log10(step)))) if seconds >= 2 else ("ms", 1e3, 0)
        if unit == "ms":
            digits = max(0, -math.floor(math.log10(step * factor)))
        y = self._charts_top - _CHART_GAP - 8
        bottom = self._charts_top + 4 * (_CHART_HEIGHT + _CHART_GAP) - _CHART_GAP
        for tick in range(int(seconds / step) + 1):
            x = self._x(tick * step)
            self._svg.path(f"M{number(x)} {_TOP}V{number(y - 11)}M{number(x)} {self._charts_top}V{bottom}", css="grid")
            label = f"{tick * step * factor:.{digits}f}"
            self._svg.text(x, y, f"{label} {unit}", css="quiet middle")

    def _draw_lane(self, lane: Lane, y: float) -> None:
        size = "" if self._row >= 14 else " small"
        base = y + self._row / 2 + (4 if self._row >= 14 else 3)
        length = "?" if lane.prompt_tokens is None else str(lane.prompt_tokens)
        self._svg.text(16, base, f"{lane.request_id}  {lane.name}", css=f"text{size}")
        self._svg.text(_LEFT - 10, base, f"{length} + {lane.output_tokens}", css=f"right{size}")
        self._svg.rect(_LEFT, y, _PLOT, self._row, css="row")
        for bar in lane.bars:
            width = (bar.end_s - bar.start_s) * self._scale
            if bar.kind is BarKind.WAITING and width < 0.5:
                continue  # the time that it takes to be let in at once
            # A hair's breadth between pieces shows that there are several.
            shown = max(width - (0.7 if width > 3 else 0.0), 0.7)
            title = _lane_title(lane) + "\n" + _bar_title(bar)
            self._svg.rect(self._x(bar.start_s), y, shown, self._row, css=bar.kind.value, title=title)
        for at in lane.preempted_s:
            title = f"{_lane_title(lane)}\npre-empted at {_time(at)}"
            cross = _cross(self._x(at), y + self._row / 2, self._row / 3)
            self._svg.path(cross, css="preempted", title=title)

    def _draw_charts(self) -> None:
        columns = self._columns
        kernels = [_parts(c.time.kernels, c) for c in columns]
        python = [_parts(c.time.python, c) for c in columns]
        most_python = _round_share(max(sum(parts.values()) for parts in python))
        per_step = [len(column.steps) for column in columns]
        prompt = [sum(s.prompt_tokens for s in c.steps) / n for c, n in zip(columns, per_step, strict=True)]
        decode = [sum(s.decode_tokens for s in c.steps) / n for c, n in zip(columns, per_step, strict=True)]
        most_tokens = max(p + d for p, d in zip(prompt, decode, strict=True))
        usage = [max(step.stats.kv_usage for step in column.steps) for column in columns]
        self._draw_chart(
            0,
            ("tokens in a step", most_tokens, f"{most_tokens:.0f}"),
            (_Series("of prompts", "prompt", prompt), _Series("decoding", "decode", decode)),
        )
        names = {PRODUCTS: "k0", ATTENTION: "k1", OTHER_OPS: "k2"}
        series = [_Series(name, names[name], [parts[name] for parts in kernels]) for name in KERNELS]
        self._draw_chart(1, ("time in kernels", 1.0, "100 %"), series)
        series = [_Series(name, f"p{i}", [parts[name] for parts in python]) for i, name in enumerate(PYTHON)]
        self._draw_chart(2, ("time in Python", most_python, f"{100 * most_python:.0f} %"), series)
        self._draw_chart(3, ("KV memory in use", 1.0, "100 %"), (_Series("of requests", "memory", usage),))
        height = 4 * (_CHART_HEIGHT + _CHART_GAP) - _CHART_GAP
        for column in columns:
            x, width = self._x(column.start_s), (column.end_s - column.start_s) * self._scale
            self._svg.rect(x, self._charts_top, width, height, css="hit", title=_column_title(column))

    def _draw_chart(self, index: int, scale: tuple[str, float, str], series: Sequence[_Series]) -> None:
        """A chart with its name, its largest value and its legend on the left."""
        name, most, label = scale
        top = self._charts_top + index * (_CHART_HEIGHT + _CHART_GAP)
        bottom = top + _CHART_HEIGHT
        self._svg.text(16, top + 9, name, css="text")
        self._svg.text(_LEFT - 6, top + 9, label, css="right quiet")
        self._svg.text(_LEFT - 6, bottom, "0", css="right quiet")
        floors = [0.0] * len(self._columns)
        for row, part in enumerate(series):
            y = top + 16 + row * 11
            self._svg.rect(16, y, 8, 8, css=part.css)
            self._svg.text(28, y + 8, part.name, css="quiet")
            self._svg.path(self._area(part.values, floors, bottom, most), css=f"{part.css} part")
            floors = [floor + value for floor, value in zip(floors, part.values, strict=True)]
        self._svg.path(f"M{_LEFT} {bottom}H{WIDTH - _RIGHT}M{_LEFT} {top}H{WIDTH - _RIGHT}", css="frame")

    def _area(self, values: Sequence[float], floors: Sequence[float], bottom: float, most: float) -> str:
        """One box for each column, from its floor up. Two clocks measure kernels and steps: none leaves the chart."""
        boxes, scale = [], _CHART_HEIGHT / most
        for column, value, floor in zip(self._columns, values, floors, strict=True):
            height = min(value, most - floor) * scale
            if height < 0.05:
                continue
            # Corners, not sizes: rounded, they still meet those of the next column.
            left, right = number(self._x(column.start_s)), number(self._x(column.end_s))
            low, high = number(bottom - floor * scale), number(bottom - floor * scale - height)
            boxes.append(f"M{left} {low}V{high}H{right}V{low}z")
        return "".join(boxes)


def describe(summary: TraceSummary) -> str:
    """The summary as a line."""
    time = summary.time
    parts = [
        f"{summary.num_requests} requests",
        f"{summary.num_steps} steps in {_time(time.seconds)}",
        f"{summary.prompt_tokens:,} prompt and {summary.decode_tokens:,} decode tokens computed",
        f"time: {100 * time.kernel_share:.1f} % kernels, {100 * time.python_share:.1f} % Python, "
        f"{100 * time.waiting_share:.1f} % between steps",
    ]
    return "  ·  ".join(parts)


def _lane_title(lane: Lane) -> str:
    length = "?" if lane.prompt_tokens is None else lane.prompt_tokens
    name = f" ({lane.name})" if lane.name else ""
    computed = lane.computed_prompt_tokens
    return f"request {lane.request_id}{name}: {length} prompt tokens, {computed} of them computed here, " + (
        f"{lane.output_tokens} output tokens"
    )


def _bar_title(bar: Bar) -> str:
    when = f"{_time(bar.start_s)} to {_time(bar.end_s)}"
    match bar.kind:
        case BarKind.WAITING:
            return f"waiting, {when}"
        case BarKind.PROMPT:
            return f"{bar.num_tokens} tokens of the prompt in one step, {when}"
        case BarKind.DECODE:
            return f"{bar.num_steps} decode steps, {when}, {_time((bar.end_s - bar.start_s) / bar.num_steps)} each"


def _column_title(column: Column) -> str:
    first, count, time = column.first_step, len(column.steps), column.time
    name = f"step {first}" if count == 1 else f"steps {first} to {first + count - 1}"
    last = column.steps[-1].stats
    prompt = sum(step.prompt_tokens for step in column.steps)
    decode = sum(step.decode_tokens for step in column.steps)
    return "\n".join(
        (
            f"{name}, {_time(column.start_s)} to {_time(column.end_s)}",
            f"{prompt} prompt and {decode} decode tokens",
            _split(f"kernels {100 * time.kernel_share:.1f} %", time.kernels),
            _split(f"Python {100 * time.python_share:.1f} %", time.python),
            f"then {last.num_running} running, {last.num_waiting} waiting, {100 * last.kv_usage:.0f} % of KV memory",
        )
    )


def _split(name: str, parts: Mapping[str, float]) -> str:
    return f"{name}: " + ", ".join(f"{part} {_time(seconds)}" for part, seconds in parts.items())


def _parts(seconds: Mapping[str, float], column: Column) -> dict[str, float]:
    return {name: column.time.share(value) for name, value in seconds.items()}


def _time(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{1e3 * seconds:.1f} ms" if seconds >= 1e-3 else f"{1e6 * seconds:.0f} µs"


def _cross(x: float, y: float, half: float) -> str:
    left, right, top, bottom = number(x - half), number(x + half), number(y - half), number(y + half)
    return f"M{left} {top}L{right} {bottom}M{left} {bottom}L{right} {top}"


def _round_share(most: float) -> float:
    return next((limit for limit in (0.05, 0.1, 0.2, 0.5) if most <= limit), 1.0)
