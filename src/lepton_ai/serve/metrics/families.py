"""A metric as Prometheus knows it, made of numbers and distributions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, TypeAlias, cast

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.utils import floatToGoString

from lepton_ai.engine.histogram import Distribution

MODEL = ("model_name", "engine")
"""The labels of what a model has or does. ``engine`` is the number of a copy of it: always 0 here."""

Row: TypeAlias = tuple[Sequence[str], float | Distribution]
"""Values of the labels, and what was measured."""


@dataclass(frozen=True, slots=True)
class MetricType:
    """A metric by its name without ``_total``, which counters get. ``meaning`` is what its HELP line says."""

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    meaning: str
    labels: tuple[str, ...] = MODEL

    def family(self, rows: Iterable[Row]) -> Metric:
        """It with its samples; without rows, that it exists."""
        match self.kind:
            case "gauge":
                gauge = GaugeMetricFamily(self.name, self.meaning, labels=self.labels)
                for labels, value in rows:
                    gauge.add_metric(labels, cast(float, value))
                return gauge
            case "counter":
                counter = CounterMetricFamily(self.name, self.meaning, labels=self.labels)
                for labels, value in rows:
                    counter.add_metric(labels, cast(float, value))
                return counter
            case "histogram":
                histogram = HistogramMetricFamily(self.name, self.meaning, labels=self.labels)
                for labels, value in rows:
                    spread = cast(Distribution, value)
                    histogram.add_metric(labels, _buckets(spread), spread.total)
                return histogram


def _buckets(spread: Distribution) -> list[tuple[str, float]]:
    """Each bound with the number of values up to it."""
    names = [*map(floatToGoString, spread.bounds), "+Inf"]
    return list(zip(names, accumulate(spread.counts), strict=True))
