"""Opens the port, loads models, and closes again in order."""

from __future__ import annotations

import asyncio
import ipaddress
import itertools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
import uvloop

from lepton_ai.engine.load_options import LoadOptions
from lepton_ai.errors import InvalidRequest
from lepton_ai.serve.access import KeyRing
from lepton_ai.serve.admission.admission import Admission
from lepton_ai.serve.admission.options import AdmissionOptions
from lepton_ai.serve.app import create_app
from lepton_ai.serve.life.engine import EngineOptions, RunningEngine
from lepton_ai.serve.life.http_server import HttpServer
from lepton_ai.serve.life.listening import listen, port_of
from lepton_ai.serve.life.options import LifeOptions
from lepton_ai.serve.life.shutdown import drain, stop_signals
from lepton_ai.serve.life.state import Life, Phase
from lepton_ai.serve.life.supervisor import Supervisor
from lepton_ai.serve.life.work import Desk
from lepton_ai.serve.metrics.monitor import Monitor
from lepton_ai.serve.metrics.monitoring import MonitoringOptions, monitoring
from lepton_ai.serve.served_model import ServedModel
from lepton_ai.serve.service import Service
from lepton_ai.weights.sources.progress import NoProgress, Progress


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
    admission: AdmissionOptions = field(default_factory=AdmissionOptions)
    life: LifeOptions = field(default_factory=LifeOptions)
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


async def serve(options: ServeOptions, on_ready: Callable[[Service, int], None]) -> None:
    """Serve until an interrupt or SIGTERM, and finish what is under way then.

    The port is open while models are loaded: requests are refused, and told so. ``on_ready`` is called, with the port,
    when they are taken. Raises like ``LLM``, and EngineDied if the engine fails again and again.
    """
    desk = _make_desk(options)
    models: dict[str, ServedModel] = {}
    service = Service(models, desk.life)
    sockets = listen(options.host, options.port)
    port = port_of(sockets[0])
    monitor = Monitor(service)
    has_metrics = options.monitoring.port is None
    app = create_app(service, options.keys, options.life, monitor=monitor, has_metrics=has_metrics)
    config = uvicorn.Config(app, http="httptools", log_level="warning", server_header=False)

    def install(engine: RunningEngine) -> None:
        for name, llm in engine.llms.items():
            if name in models:
                models[name].replace(llm)
            else:
                models[name] = ServedModel(name, llm, desk)

    async with (
        HttpServer(config, sockets, options.life.write_timeout_s) as http,
        Supervisor(_engine_starter(options), install, desk.life, options.life) as supervisor,
    ):
        await supervisor.start()
        async with monitoring(monitor, options.monitoring):
            with stop_signals() as stopped:
                on_ready(service, port)
                await _run_until(stopped, http, supervisor)
                if not await drain(desk, options.life):
                    http.drop_connections()


def run(options: ServeOptions, on_ready: Callable[[Service, int], None]) -> None:
    """``serve``, in an event loop of its own: uvloop's, as asyncio's own takes half as much again for each token."""
    uvloop.run(serve(options, on_ready))


def _make_desk(options: ServeOptions) -> Desk:
    num_seats = LoadOptions(max_num_seqs=options.model_options.get("max_num_seqs")).max_requests
    return Desk(Admission(options.admission, num_seats=num_seats), Life(Phase.STARTING))


def _engine_starter(options: ServeOptions) -> Callable[[], Awaitable[RunningEngine]]:
    """Starts engines; the progress of the first is shown."""
    engine = EngineOptions(
        models={served_name(model): model for model in options.models},
        num_threads=options.num_threads,
        memory_bytes=options.memory_bytes,
        model_options=options.model_options,
    )
    progresses = itertools.chain([options.progress], itertools.repeat(NoProgress()))
    return lambda: RunningEngine.start(engine, next(progresses))


async def _run_until(stopped: asyncio.Event, http: HttpServer, supervisor: Supervisor[RunningEngine]) -> None:
    """Until ``stopped``. Raises what ended the server or the supervisor before."""
    tasks = [asyncio.ensure_future(each) for each in (stopped.wait(), http.wait_ended(), supervisor.watch())]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
