"""What Prometheus is given at a scrape."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from lepton_ai.serve.metrics.catalog import (
    ANSWERED,
    BUILD_INFO,
    ENGINE_HISTOGRAMS,
    ENGINE_UP,
    ENGINE_VALUES,
    FINISHED_REASONS,
    IN_FLIGHT,
    KV_BYTES,
    METRICS,
    MODEL_HISTOGRAMS,
    MODEL_INFO,
    REFUSED,
    SUCCESS,
)
from lepton_ai.serve.metrics.engine_watch import EngineWatch
from lepton_ai.serve.metrics.http_meter import HttpMeter
from lepton_ai.serve.served_model import ServedModel
from lepton_ai.version import __version__

_ENGINE = "0"


class ServerCollector(Collector):
    """The metrics of the catalog, as they are now; of the engines, as they were when ``watch`` asked."""

    def __init__(self, models: Mapping[str, ServedModel], watch: EngineWatch, http: HttpMeter) -> None:
        self._models = models
        self._watch = watch
        self._http = http

    def describe(self) -> Iterable[Metric]:
        """All of them, without values."""
        return [metric.family(()) for metric in METRICS]

    def collect(self) -> Iterator[Metric]:
        """All of them."""
        yield from self._of_engines()
        yield from self._of_models()
        http = self._http
        yield BUILD_INFO.family([((__version__, platform.python_version()), 1)])
        yield IN_FLIGHT.family([((), http.num_in_flight)])
        yield ANSWERED.family([((route, str(status)), n) for (route, status), n in http.answered.items()])
        yield REFUSED.family([((code, str(status)), n) for (code, status), n in http.refused.items()])

    def _of_engines(self) -> Iterator[Metric]:
        known = self._watch.last.items()
        for metric, value in ENGINE_VALUES:
            yield metric.family(((name, _ENGINE), value(stats)) for name, stats in known)
        for metric, spread in ENGINE_HISTOGRAMS:
            yield metric.family(((name, _ENGINE), spread(stats)) for name, stats in known)
        yield ENGINE_UP.family(((name, _ENGINE), is_up) for name, is_up in self._watch.up.items())

    def _of_models(self) -> Iterator[Metric]:
        models = self._models.items()
        for metric, histogram in MODEL_HISTOGRAMS:
            yield metric.family(((name, _ENGINE), histogram(model.meter).snapshot()) for name, model in models)
        yield SUCCESS.family(
            ((name, _ENGINE, reason), model.meter.ended[key])
            for name, model in models
            for key, reason in FINISHED_REASONS.items()
        )
        yield KV_BYTES.family(((name, _ENGINE), model.info.kv_bytes) for name, model in models if model.generates)
        yield MODEL_INFO.family((_info_labels(name, model), 1) for name, model in models)


class EngineProcessCollector(Collector):
    """Memory, processor time and files of the engines' process; nothing when it has gone."""

    def __init__(self, pid: Callable[[], int | None]) -> None:
        self._pid = pid

    def collect(self) -> Iterable[Metric]:
        """What the system says of it."""
        pid = self._pid()
        if pid is None:
            return []
        return ProcessCollector("lepton:engine", pid=lambda: pid, registry=None).collect()


def _info_labels(name: str, model: ServedModel) -> tuple[str, ...]:
    info = model.info
    return (name, _ENGINE, info.architecture, info.policy, info.kv_dtype or "", info.backend, info.isa, info.digest)
