"""A server in a thread of the tests, on a port of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import uvloop
from fastapi import FastAPI

from lepton_ai.serve.access import KeyRing
from lepton_ai.serve.access.options import AccessOptions
from lepton_ai.serve.access.rate_limits import RateLimits
from lepton_ai.serve.admission.admission import Admission
from lepton_ai.serve.admission.options import AdmissionOptions
from lepton_ai.serve.app import create_app
from lepton_ai.serve.http.access_log import AccessLog
from lepton_ai.serve.http.bounds import Bounds
from lepton_ai.serve.http.connection import BoundedConfig
from lepton_ai.serve.life.engine import EngineOptions, RunningEngine
from lepton_ai.serve.life.http_server import HttpServer
from lepton_ai.serve.life.listening import listen, port_of
from lepton_ai.serve.life.options import LifeOptions
from lepton_ai.serve.life.state import Life, Phase
from lepton_ai.serve.life.supervisor import Supervisor
from lepton_ai.serve.life.work import Desk
from lepton_ai.serve.served_model import ServedModel
from lepton_ai.serve.server import installer
from lepton_ai.serve.server_limits import ServerLimits
from lepton_ai.serve.service import Service
from lepton_ai.weights.sources.progress import NoProgress


@dataclass(frozen=True)
class Setup:
    """Who may use the server, and how much. Without models, no engine is started."""

    access: AccessOptions = field(default_factory=AccessOptions)
    bounds: Bounds = field(default_factory=lambda: Bounds(max_body_bytes=1 << 20))
    limits: RateLimits = field(default_factory=RateLimits)
    access_log: AccessLog | None = None
    admission: AdmissionOptions = field(default_factory=AdmissionOptions)
    life: LifeOptions = field(default_factory=LifeOptions)
    max_num_seqs: int = 16


class Running:
    """``url`` is where it listens; ``engine`` the one that runs now, which is replaced when it fails."""

    def __init__(self, models: Mapping[str, Path], setup: Setup) -> None:
        self._models = {name: str(path) for name, path in models.items()}
        self._setup = setup
        self._started = threading.Event()
        self._failed: BaseException | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self._stopped = asyncio.Event()
        self.url = ""
        self.engine: RunningEngine | None = None
        self.desk = Desk(Admission(setup.admission, num_seats=setup.max_num_seqs), Life(Phase.STARTING))
        self.served: dict[str, ServedModel] = {}
        self.service = Service(self.served, self.desk.life)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._started.wait(60)
        if self._failed is not None:
            raise self._failed

    @property
    def pid(self) -> int:
        """Of the engine's process."""
        assert self.engine is not None
        return self.engine.pid

    def stop(self) -> None:
        """End it."""
        assert self.loop is not None
        self.loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(30)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        try:
            uvloop.run(self._serve())
        except BaseException as error:
            self._failed = error
            self._started.set()
            raise

    async def _serve(self) -> None:
        self.loop, setup = asyncio.get_running_loop(), self._setup
        limits = ServerLimits(bounds=setup.bounds, admission=setup.admission, life=setup.life)
        app = create_app(self.service, setup.access, limits, rate_limits=setup.limits, access_log=setup.access_log)
        tls = setup.access.tls
        sockets = listen("127.0.0.1", 0)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{port_of(sockets[0])}"
        async with AsyncExitStack() as stack:
            config = BoundedConfig(app, setup.bounds, tls.context if tls else None)
            await stack.enter_async_context(HttpServer(config, sockets))
            if self._models:
                supervisor = await stack.enter_async_context(self._supervisor())
                await supervisor.start()
                watching = asyncio.create_task(supervisor.watch())
                stack.callback(watching.cancel)
            else:
                self.desk.life.begin()
            self._started.set()
            await self._stopped.wait()

    def _supervisor(self) -> Supervisor[RunningEngine]:
        setup = self._setup
        options = EngineOptions(models=self._models, num_threads=1, model_options={"max_num_seqs": setup.max_num_seqs})
        return Supervisor(lambda: RunningEngine.start(options, NoProgress()), self._install, self.desk.life, setup.life)

    def _install(self, engine: RunningEngine) -> None:
        self.engine = engine
        installer(self.served, self.desk)(engine)


def app_without_models(keys: KeyRing | None = None, life: Life | None = None) -> FastAPI:
    """An application to be looked at, or asked without a socket."""
    return create_app(Service({}, life or Life()), AccessOptions(keys=keys), ServerLimits())


@contextmanager
def running(
    models: Mapping[str, Path],
    keys: KeyRing | None = None,
    *,
    max_body_bytes: int = 1 << 20,
    setup: Setup | None = None,
) -> Iterator[Running]:
    """A server for the length of a ``with`` block. A ``setup`` says all but ``models``."""
    usual = Setup(AccessOptions(keys=keys), Bounds(max_body_bytes=max_body_bytes))
    made = Running(models, setup or usual)
    try:
        yield made
    finally:
        made.stop()
