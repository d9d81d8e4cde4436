"""A server in a thread of the tests, on a port of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import uvicorn
import uvloop

from lepton_ai import AsyncLLM, EngineProcess
from lepton_ai.serve.access import KeyRing
from lepton_ai.serve.app import create_app
from lepton_ai.serve.served_model import ServedModel
from lepton_ai.serve.service import Service


class Running:
    """``url`` is where it listens."""

    def __init__(self, models: Mapping[str, Path], keys: KeyRing | None, max_body_bytes: int) -> None:
        self._models = models
        self._keys = keys
        self._max_body_bytes = max_body_bytes
        self._started = threading.Event()
        self._failed: BaseException | None = None
        self._server: uvicorn.Server | None = None
        self.url = ""
        self.service: Service | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._started.wait(60)
        if self._failed is not None:
            raise self._failed

    def stop(self) -> None:
        """End it."""
        assert self._server is not None
        self._server.should_exit = True
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
        with EngineProcess(num_threads=1) as process:
            models = {name: await AsyncLLM.start(path, process=process) for name, path in self._models.items()}
            self.service = Service({name: ServedModel(name, llm) for name, llm in models.items()})
            app = create_app(self.service, self._keys, max_body_bytes=self._max_body_bytes)
            self._server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
            task = asyncio.create_task(self._server.serve())
            while not self._server.started:
                await asyncio.sleep(0.01)
            port = self._server.servers[0].sockets[0].getsockname()[1]
            self.url = f"http://127.0.0.1:{port}"
            self._started.set()
            await task
            for model in models.values():
                await model.close()


@contextmanager
def running(
    models: Mapping[str, Path], keys: KeyRing | None = None, *, max_body_bytes: int = 1 << 20
) -> Iterator[Running]:
    """A server for the length of a ``with`` block."""
    made = Running(models, keys, max_body_bytes)
    try:
        yield made
    finally:
        made.stop()
