"""A server in a thread of the tests, on a port of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import uvicorn
import uvloop

from lepton_ai.serve.access import KeyRing
from lepton_ai.serve.admission.admission import Admission
from lepton_ai.serve.admission.options import AdmissionOptions
from lepton_ai.serve.app import create_app
from lepton_ai.serve.life.engine import EngineOptions, RunningEngine
from lepton_ai.serve.life.http_server import HttpServer
from lepton_ai.serve.life.listening import listen, port_of
from lepton_ai.serve.life.options import LifeOptions
from lepton_ai.serve.life.state import Life, Phase
from lepton_ai.serve.life.supervisor import Supervisor
from lepton_ai.serve.life.work import Desk
from lepton_ai.serve.served_model import ServedModel
from lepton_ai.serve.service import Service
from lepton_ai.weights.sources.progress import NoProgress


class Running:
    """``url`` is where it listens; ``engine`` the one that runs now, which is replaced when it fails."""

    def __init__(
        self,
        models: Mapping[str, Path],
        keys: KeyRing | None,
        *,
        max_body_bytes: int,
        admission: AdmissionOptions,
        life: LifeOptions,
        max_num_seqs: int,
    ) -> None:
        self._models = {name: str(path) for name, path in models.items()}
        self._max_num_seqs = max_num_seqs
        self._life = life
        self._started = threading.Event()
        self._failed: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped = asyncio.Event()
        self.url = ""
        self.engine: RunningEngine | None = None
        self.desk = Desk(Admission(admission, num_seats=max_num_seqs), Life(Phase.STARTING))
        self.served: dict[str, ServedModel] = {}
        self.service = Service(self.served, self.desk.life)
        self._app = create_app(self.service, keys, life, max_body_bytes=max_body_bytes)
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
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._stopped.set)
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
        self._loop = asyncio.get_running_loop()
        options = EngineOptions(models=self._models, num_threads=1, model_options={"max_num_seqs": self._max_num_seqs})
        sockets = listen("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{port_of(sockets[0])}"
        config = uvicorn.Config(self._app, log_level="warning")
        async with (
            HttpServer(config, sockets, self._life.write_timeout_s),
            Supervisor(
                lambda: RunningEngine.start(options, NoProgress()), self._install, self.desk.life, self._life
            ) as supervisor,
        ):
            await supervisor.start()
            watching = asyncio.create_task(supervisor.watch())
            self._started.set()
            await self._stopped.wait()
            watching.cancel()

    def _install(self, engine: RunningEngine) -> None:
        self.engine = engine
        for name, llm in engine.llms.items():
            if name in self.served:
                self.served[name].replace(llm)
            else:
                self.served[name] = ServedModel(name, llm, self.desk)


@contextmanager
def running(
    models: Mapping[str, Path],
    keys: KeyRing | None = None,
    *,
    max_body_bytes: int = 1 << 20,
    admission: AdmissionOptions | None = None,
    life: LifeOptions | None = None,
    max_num_seqs: int = 16,
) -> Iterator[Running]:
    """A server for the length of a ``with`` block."""
    made = Running(
        models,
        keys,
        max_body_bytes=max_body_bytes,
        admission=admission or AdmissionOptions(),
        life=life or LifeOptions(),
        max_num_seqs=max_num_seqs,
    )
    try:
        yield made
    finally:
        made.stop()
