"""Loads as a picture: rates and waits over the number of clients, or over the rate of requests."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lepton_ai.cli.load_table import load_name, load_value
from lepton_ai.cli.svg import Svg, number, round_step
from lepton_ai.errors import InvalidRequest, StorageError
from lepton_ai.loadgen.benchmark import Benchmark
from lepton_ai.loadgen.statistics import Report, Spread

_PANEL, _HEIGHT = 400, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 14, 34, 44
_HEAD, _MARK = 50, 6
_LOOK = """
text{font:11px system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;fill:#222}
.page{fill:#fff}.title{font-size:16px;font-weight:600}.name{font-weight:600}.quiet{fill:#666}
.right{text-anchor:end}.middle{text-anchor:middle}.grid{stroke:#e3e3e3;fill:none}
.line{fill:none;stroke-width:2;stroke-linejoin:round}
.l0{stroke:#3b73b9}.l1{stroke:#f2a33a}.l2{stroke:#c8102e}.m0{fill:#3b73b9}.m1{fill:#f2a33a}.m2{fill:#c8102e}
"""


@dataclass(frozen=True, slots=True)
class _Panel:
    """A chart: a value of each series for each load, None where there is none."""

    title: str
    unit: str
    series: Sequence[tuple[str, Sequence[float | None]]]


def check_plot_path(path: Path) -> None:
    """Raise InvalidRequest for a file that cannot be one: before minutes of work."""
    if path.suffix != ".svg":
        raise InvalidRequest(f"--plot: expected a file called *.svg, got {path.name!r}", param="plot")
    if not path.parent.is_dir():
        raise InvalidRequest(f"--plot: there is no folder {path.parent}", param="plot")


def write_plot(path: Path, picture: str) -> None:
    """Write it. Raises StorageError."""
    try:
        path.write_text(picture, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"--plot: cannot write {path}: {error.strerror}", param="plot") from None


def draw_chart(benchmark: Benchmark) -> str:
    """The picture as an SVG document. A point says its value when the pointer rests on it."""
    reports = benchmark.reports
    panels = _panels(reports)
    version = f", server {benchmark.server_version}" if benchmark.server_version else ""
    title = f"{benchmark.model} under load{version}"
    svg = Svg(2 * _PANEL, _HEAD + 2 * _HEIGHT, title=title, style=_LOOK)
    svg.rect(0, 0, 2 * _PANEL, _HEAD + 2 * _HEIGHT, css="page")
    svg.text(16, 26, title, css="title")
    for index, panel in enumerate(panels):
        x, y = (index % 2) * _PANEL, _HEAD + (index // 2) * _HEIGHT
        _Chart(svg, panel, x, y).draw([load_value(row) for row in reports], load_name(reports))
    return svg.to_text()


def _panels(reports: Sequence[Report]) -> Sequence[_Panel]:
    def waits(title: str, spread_of: Callable[[Report], Spread | None]) -> _Panel:
        spreads = [spread_of(row) for row in reports]
        series = [
            (name, [None if spread is None else 1e3 * getattr(spread, name) for spread in spreads])
            for name in ("p50", "p90", "p99")
        ]
        return _Panel(title, "ms", series)

    rates = [
        ("output", [row.output_tokens_per_s for row in reports]),
        ("total", [row.total_tokens_per_s for row in reports]),
    ]
    return (
        _Panel("tokens a second", "", rates),
        waits("to the first token", lambda row: row.first_token),
        waits("between tokens", lambda row: row.between_tokens),
        waits("whole answer", lambda row: row.latency),
    )


class _Chart:
    """One panel of the picture. Loads stand at equal distances, whatever lies between their numbers."""

    def __init__(self, svg: Svg, panel: _Panel, x: float, y: float) -> None:
        self._svg = svg
        self._panel = panel
        self._x0, self._x1 = x + _LEFT, x + _PANEL - _RIGHT
        self._y0, self._y1 = y + _HEIGHT - _BOTTOM, y + _TOP
        known = [value for _, values in panel.series for value in values if value is not None]
        self._step = round_step(max(known, default=0.0) / 4)
        self._most = self._step * max(math.ceil(max(known, default=0.0) / self._step - 1e-9), 1)

    def draw(self, labels: Sequence[str], name: str) -> None:
        """Draw it with the loads' ``labels`` below."""
        svg, panel = self._svg, self._panel
        svg.text(self._x0, self._y1 - 14, f"{panel.title}, {panel.unit}".rstrip(", "), css="name")
        for tick in range(round(self._most / self._step) + 1):
            y = self._y(tick * self._step)
            svg.path(f"M{number(self._x0)} {number(y)}H{number(self._x1)}", css="grid")
            svg.text(self._x0 - 6, y + 4, f"{tick * self._step:,g}", css="right quiet")
        for index, label in enumerate(labels):
            svg.text(self._x(index, len(labels)), self._y0 + 15, label, css="middle quiet")
        svg.text((self._x0 + self._x1) / 2, self._y0 + 30, name, css="middle quiet")
        room = 20 + 7 * max(len(series) for series, _ in panel.series)
        for index, (series, values) in enumerate(panel.series):
            self._draw_series(index, series, values, labels)
            x = self._x1 - room * (len(panel.series) - index)
            svg.rect(x, self._y1 - 22, 8, 8, css=f"m{index}")
            svg.text(x + 12, self._y1 - 14, series, css="quiet")

    def _draw_series(self, index: int, name: str, values: Sequence[float | None], labels: Sequence[str]) -> None:
        points = [
            (self._x(at, len(labels)), self._y(value), value, label)
            for at, (value, label) in enumerate(zip(values, labels, strict=True))
            if value is not None
        ]
        if len(points) > 1:
            corners = "L".join(f"{number(x)} {number(y)}" for x, y, _, _ in points)
            self._svg.path(f"M{corners}", css=f"line l{index}")
        for x, y, value, label in points:
            title = f"{label}: {name} {value:.4g} {self._panel.unit}".rstrip()
            self._svg.rect(x - _MARK / 2, y - _MARK / 2, _MARK, _MARK, css=f"m{index}", title=title)

    def _x(self, index: int, count: int) -> float:
        return self._x0 + (self._x1 - self._x0) * (index + 0.5) / count

    def _y(self, value: float) -> float:
        return self._y0 - (self._y0 - self._y1) * value / self._most
