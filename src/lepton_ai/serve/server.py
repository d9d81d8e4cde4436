"""Loads models, opens the port, and closes again in order."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
import uvloop

from lepton_ai.engine.async_llm import AsyncLLM
from lepton_ai.engine.remote.process import EngineProcess
from lepton_ai.errors import InvalidRequest
from lepton_ai.serve.access import KeyRing
from lepton_ai.serve.app import create_app
from lepton_ai.serve.metrics.monitor import Monitor
from lepton_ai.serve.metrics.monitoring import MonitoringOptions, monitoring
from lepton_ai.serve.served_model import ServedModel
from lepton_ai.serve.service import Service
from lepton_ai.weights.sources.progress import NoProgress, Progress

_DRAIN_S = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """What to serve, where, and to whom. ``keys`` None serves everyone, on this machine alone. ``model_options`` are
    those of ``LLM``, for each model.

    Raises InvalidRequest for an address that others reach without keys, and for a model that is there twice.
    """

    models: Sequence[str]
    host: str = "127.0.0.1"
    port: int = 8000
    keys: KeyRing | None = None
    num_threads: int | None = None
    memory_bytes: int | None = None
    model_options: Mapping[str, Any] = field(default_factory=dict)
    progress: Progress = field(default_factory=NoProgress)
    monitoring: MonitoringOptions = field(default_factory=MonitoringOptions)

    def __post_init__(self) -> None:
        if not self.models:
            raise InvalidRequest("models: expected at least one", param="models")
        if len({served_name(model) for model in self.models}) < len(self.models):
            raise InvalidRequest("models: expected each once", param="models")
        if self.keys is None and not _is_loopback(self.host):
            raise InvalidRequest(
                f"host: expected an address of this machine alone without keys, got {self.host}", param="host"
            )


def served_name(model: str) -> str:
    """What requests call a model: its short name, or the name of its file or folder."""
    return Path(model).stem if Path(model).exists() else model


async def serve(options: ServeOptions, on_ready: Callable[[Service], None]) -> None:
    """Serve until an interrupt or SIGTERM; requests under way then have half a minute to end. Raises like ``LLM``."""
    async with AsyncExitStack() as stack:
        process = stack.enter_context(EngineProcess(num_threads=options.num_threads, memory_bytes=options.memory_bytes))
        models: dict[str, ServedModel] = {}
        for model in options.models:
            llm = await AsyncLLM.start(model, process=process, progress=options.progress, **options.model_options)
            name = served_name(model)
            models[name] = ServedModel(name, await stack.enter_async_context(llm))
        service = Service(models)
        monitor = Monitor(service)
        await stack.enter_async_context(monitoring(monitor, options.monitoring))
        config = uvicorn.Config(
            create_app(service, options.keys, monitor=monitor, has_metrics=options.monitoring.port is None),
            host=options.host,
            port=options.port,
            http="httptools",
            log_level="warning",
            server_header=False,
            timeout_graceful_shutdown=_DRAIN_S,
        )
        server = uvicorn.Server(config)
        ready = asyncio.create_task(_tell_when_started(server, lambda: on_ready(service)))
        await server.serve()
        ready.cancel()


def run(options: ServeOptions, on_ready: Callable[[Service], None]) -> None:
    """``serve``, in an event loop of its own: uvloop's, as asyncio's own takes half as much again for each token."""
    uvloop.run(serve(options, on_ready))


async def _tell_when_started(server: uvicorn.Server, tell: Callable[[], None]) -> None:
    while not server.started:
        await asyncio.sleep(0.01)
    tell()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
