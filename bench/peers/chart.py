"""Ratios as a picture: a bar for each case, what its interval is, and where its targets lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

from lepton_ai.cli.svg import Svg, number

_WIDTH, _LEFT, _RIGHT, _HEAD, _FOOT = 800, 330, 60, 58, 34
_ROW, _BAR, _GAP = 20, 12, 12
_LOOK = """
text{font:11px system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;fill:#222}
.page{fill:#fff}.title{font-size:16px;font-weight:600}.name{font-weight:600}.quiet{fill:#666}
.right{text-anchor:end}.middle{text-anchor:middle}.grid{stroke:#e3e3e3;fill:none}.one{stroke:#888;fill:none}
.bar{fill:#3b73b9}.missed{fill:#c9a15b}.spread{stroke:#222;fill:none}
.must{stroke:#c8102e;stroke-width:2;fill:none}.goal{stroke:#f2a33a;stroke-width:2;fill:none}
"""


@dataclass(frozen=True, slots=True)
class Bar:
    """A case: its ratio with the bounds of the interval, and targets, None where there is none."""

    group: str
    label: str
    ratio: float
    low: float
    high: float
    must: float | None
    goal: float | None
    is_missed: bool


def draw_ratios(title: str, bars: Sequence[Bar]) -> str:
    """The picture as an SVG document. Bars of one group stand together; each says its values to the pointer.

    The axis is logarithmic, and a bar begins at 1: it goes to the left where the other engine is faster.
    """
    groups = list(dict.fromkeys(bar.group for bar in bars))
    height = _HEAD + len(bars) * _ROW + len(groups) * (_ROW + _GAP) + _FOOT
    values = [value for bar in bars for value in (bar.low, bar.high, bar.must, bar.goal) if value is not None]
    ticks = _ticks(min([1.0, *values]), max([2.0, *values]))
    chart = _Chart(Svg(_WIDTH, height, title=title, style=_LOOK), height, ticks)
    chart.draw_frame(title)
    y = float(_HEAD)
    for group in groups:
        chart.svg.text(16, y + _BAR, group, css="name")
        y += _ROW
        for bar in (bar for bar in bars if bar.group == group):
            chart.draw_bar(bar, y)
            y += _ROW
        y += _GAP
    return chart.svg.to_text()


def _ticks(least: float, most: float) -> list[float]:
    """1, 2 and 5 times powers of ten, from the last that is not above ``least`` to the first not below ``most``."""
    steps = [factor * 10.0**power for power in range(-3, 4) for factor in (1, 2, 5)]
    first = max(step for step in steps if step <= least)
    return [step for step in steps if first <= step < most] + [min(step for step in steps if step >= most)]


@dataclass(frozen=True, slots=True)
class _Chart:
    svg: Svg
    height: float
    ticks: Sequence[float]

    def draw_frame(self, title: str) -> None:
        svg, bottom = self.svg, self.height - _FOOT
        svg.rect(0, 0, _WIDTH, self.height, css="page")
        svg.text(16, 26, title, css="title")
        svg.text(16, 44, "ratio, its interval of 95 %; red: must be reached, orange: aimed at", css="quiet")
        for tick in self.ticks:
            css = "one" if tick == 1 else "grid"
            svg.path(f"M{number(self._x(tick))} {_HEAD}V{number(bottom)}", css=css)
            svg.text(self._x(tick), bottom + 16, f"{tick:g}", css="middle quiet")

    def draw_bar(self, bar: Bar, y: float) -> None:
        svg = self.svg
        svg.text(_LEFT - 8, y + _BAR - 2, bar.label, css="right quiet")
        says = f"{bar.label}: {bar.ratio:.2f} ({bar.low:.2f}-{bar.high:.2f})"
        begin, end = sorted((self._x(1.0), self._x(bar.ratio)))
        svg.rect(begin, y, end - begin, _BAR, css="missed" if bar.is_missed else "bar", title=says)
        svg.path(f"M{number(self._x(bar.low))} {number(y + _BAR / 2)}H{number(self._x(bar.high))}", css="spread")
        for css, ratio in (("must", bar.must), ("goal", bar.goal)):
            if ratio is not None:
                svg.path(f"M{number(self._x(ratio))} {number(y - 2)}V{number(y + _BAR + 2)}", css=css)
        last = max(value for value in (1.0, bar.high, bar.must, bar.goal) if value is not None)
        svg.text(self._x(last) + 6, y + _BAR - 2, f"{bar.ratio:.2f}", css="quiet")

    def _x(self, ratio: float) -> float:
        first, last = log(self.ticks[0]), log(self.ticks[-1])
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (log(ratio) - first) / (last - first)
