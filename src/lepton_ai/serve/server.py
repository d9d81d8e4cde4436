"""Opens the port, loads models, and closes again in order."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from lepton_ai.engine.load_options import LoadOptions
from lepton_ai.errors import InvalidRequest
from lepton_ai.serve.access.options import AccessOptions
from lepton_ai.serve.admission.admission import Admission
from lepton_ai.serve.app import create_app
from lepton_ai.serve.http.access_log import AccessLog
from lepton_ai.serve.http.connection import BoundedConfig
from lepton_ai.serve.http.gate import is_loopback
from lepton_ai.serve.life.engine import EngineOptions, RunningEngine
from lepton_ai.serve.life.http_server import HttpServer
from lepton_ai.serve.life.listening import listen, port_of
from lepton_ai.serve.life.shutdown import drain, stop_signals
from lepton_ai.serve.life.state import Life, Phase
from lepton_ai.serve.life.supervisor import Supervisor
from lepton_ai.serve.life.work import Desk
from lepton_ai.serve.logs import on_loop_error
from lepton_ai.serve.metrics.monitor import Monitor
from lepton_ai.serve.metrics.monitoring import MonitoringOptions, monitoring
from lepton_ai.serve.served_model import ServedModel
from lepton_ai.serve.server_limits import ServerLimits
from lepton_ai.serve.service import Service
from lepton_ai.serve.upkeep import upkeep
from lepton_ai.weights.sources.progress import NoProgress, Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """What to serve, where, to whom, and how much of it. ``model_options`` are those of ``LLM``, for each model.

    Raises InvalidRequest for an address that others reach without keys, and for a model that is there twice.
    """

    models: Sequence[str]
    host: str = "127.0.0.1"
    port: int = 8000
    access: AccessOptions = field(default_factory=AccessOptions)
    limits: ServerLimits = field(default_factory=ServerLimits)
    monitoring: MonitoringOptions = field(default_factory=MonitoringOptions)
    num_threads: int | None = None
    memory_bytes: int | None = None
    model_options: Mapping[str, Any] = field(default_factory=dict)
    progress: Progress = field(default_factory=NoProgress)

    def __post_init__(self) -> None:
        if not self.models:
            raise InvalidRequest("models: expected at least one", param="models")
        if len({served_name(model) for model in self.models}) < len(self.models):
            raise InvalidRequest("models: expected each once", param="models")
        if self.access.keys is None and not is_loopback(self.host):
            raise InvalidRequest(
                f"host: expected an address of this machine alone without keys, got {self.host}", param="host"
            )


def served_name(model: str) -> str:
    """What requests call a model: its short name, or the name of its file or folder."""
    return Path(model).stem if Path(model).exists() else model


def run(options: ServeOptions, on_ready: Callable[[Service, int], None]) -> None:
    """``serve``, in an event loop of its own: uvloop's, as asyncio's own takes half as much again for each token."""
    uvloop.run(serve(options, on_ready))


async def serve(options: ServeOptions, on_ready: Callable[[Service, int], None]) -> None:
    """Serve until an interrupt or SIGTERM, and finish what is under way then.

    The port is open while models are loaded: requests are refused, and told so. ``on_ready`` is called, with the port,
    when they are taken. Raises like ``LLM``, and EngineDied if the engine fails again and again.
    """
    asyncio.get_running_loop().set_exception_handler(on_loop_error)
    access, life = options.access, options.limits.life
    desk = _make_desk(options)
    models: dict[str, ServedModel] = {}
    service = Service(models, desk.life)
    monitor = Monitor(service)
    async with AsyncExitStack() as stack:
        sockets = listen(options.host, options.port)
        access_log = None if access.log is None else AccessLog(access.log)
        if access_log is not None:
            stack.callback(access_log.close)
        has_metrics = options.monitoring.port is None
        app = create_app(
            service, access, options.limits, access_log=access_log, monitor=monitor, has_metrics=has_metrics
        )
        config = BoundedConfig(app, options.limits.bounds, None if access.tls is None else access.tls.context)
        await stack.enter_async_context(upkeep(access, access_log))
        http = await stack.enter_async_context(HttpServer(config, sockets))
        starter, install = _engine_starter(options), installer(models, desk)
        supervisor = await stack.enter_async_context(Supervisor(starter, install, desk.life, life))
        await supervisor.start()
        await stack.enter_async_context(monitoring(monitor, options.monitoring))
        stopped = stack.enter_context(stop_signals())
        on_ready(service, port_of(sockets[0]))
        await _run_until(stopped, http, supervisor)
        if not await drain(desk, life):
            http.drop_connections()


def _make_desk(options: ServeOptions) -> Desk:
    num_seats = LoadOptions(max_num_seqs=options.model_options.get("max_num_seqs")).max_requests
    return Desk(Admission(options.limits.admission, num_seats=num_seats), Life(Phase.STARTING))


def installer(models: dict[str, ServedModel], desk: Desk) -> Callable[[RunningEngine], None]:
    """Puts the models of an engine in the place of those of the one before."""

    def install(engine: RunningEngine) -> None:
        for name, llm in engine.llms.items():
            if name in models:
                models[name].replace(llm)
            else:
                models[name] = ServedModel(name, llm, desk)

    return install


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
