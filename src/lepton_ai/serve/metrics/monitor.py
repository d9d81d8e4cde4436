"""All that is measured of a server, behind one object."""

from __future__ import annotations

import gzip

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics.exposition import ALLOWUTF8
from prometheus_client.process_collector import ProcessCollector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from lepton_ai.serve.access.scopes import METRICS_PATH
from lepton_ai.serve.metrics.collectors import EngineProcessCollector, ServerCollector
from lepton_ai.serve.metrics.engine_watch import EngineWatch
from lepton_ai.serve.metrics.http_meter import HttpMeter
from lepton_ai.serve.service import Service


class Monitor:
    """``http`` is counted by the middleware ``Metered``, models count for themselves, ``watch`` asks their engines when
    somebody looks, for at most ``timeout_s``.
    """

    def __init__(self, service: Service, timeout_s: float = 1.0) -> None:
        self.http = HttpMeter()
        self.watch = EngineWatch(service.models, timeout_s)
        self._service = service
        self._registry = CollectorRegistry(auto_describe=True)
        self._registry.register(ServerCollector(service.models, self.watch, self.http))
        self._registry.register(EngineProcessCollector(self._engine_pid))
        ProcessCollector(registry=self._registry)

    @property
    def generators(self) -> tuple[str, ...]:
        """The models that have an engine's statistics."""
        return tuple(name for name, model in self._service.models.items() if model.generates)

    async def scrape(self, request: Request) -> Response:
        """The metrics of now, those of ``name[]`` alone if it is given, in the format that is asked for."""
        await self.watch.refresh()
        names = request.query_params.getlist("name[]")
        registry = self._registry.restricted_registry(names) if names else self._registry
        encode, content_type = choose_encoder(",".join(request.headers.getlist("accept")))
        # All names are valid as they are. Unless told so, versions from 0.23 on make underscores of their colons in
        # OpenMetrics, and not everywhere: github.com/prometheus/client_python/issues/1177.
        body = encode(registry, escaping=ALLOWUTF8)  # type: ignore[call-arg]
        headers = {"content-type": content_type}
        if _takes_gzip(request):
            body, headers["content-encoding"] = gzip.compress(body, compresslevel=1), "gzip"
        return Response(body, headers=headers)

    def app(self) -> Starlette:
        """An application that has the metrics, to whoever asks, and nothing else."""
        return Starlette(routes=[Route(METRICS_PATH, self.scrape, methods=["GET"])])

    def _engine_pid(self) -> int | None:
        """That of the models, which share a process."""
        return next((model.engine_pid for model in self._service.models.values() if model.is_running), None)


def _takes_gzip(request: Request) -> bool:
    encodings = ",".join(request.headers.getlist("accept-encoding")).lower().split(",")
    return "gzip" in (encoding.partition(";")[0].strip() for encoding in encodings)
