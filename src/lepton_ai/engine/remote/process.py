"""Starts an engine's process, and ends it."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import TypeAlias

import msgspec

from lepton_ai.config import Environment, Policy
from lepton_ai.engine.remote.connection import Connection
from lepton_ai.engine.remote.link import Link
from lepton_ai.engine.remote.messages import Command, Event, Loaded, LoadModel, Ping
from lepton_ai.errors import InvalidRequest, LeptonError
from lepton_ai.huge_pages import with_huge_pages
from lepton_ai.weights.sources.progress import Progress

OptionValue: TypeAlias = bool | int | str | Policy | Sequence[str] | None
"""An argument of ``LLM`` that can be sent."""

_END_S = 5.0


class EngineProcess:
    """A process that runs models on one device, in one memory budget; it ends with this one, however that ends.

    ``num_threads`` None takes the cores that this process may use. ``memory_bytes`` is what weights and KV caches of
    all models may take together; None: what the machine has to spare. Raises InvalidRequest for a number below 1.
    """

    def __init__(self, *, num_threads: int | None = None, memory_bytes: int | None = None) -> None:
        for name, value in (("num_threads", num_threads), ("memory_bytes", memory_bytes)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise InvalidRequest(f"{name}: expected a positive integer, got {value!r}", param=name)
        threads = num_threads or Environment.read().num_threads
        mine, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        arguments = [str(its.fileno()), str(threads or 0), str(memory_bytes or 0)]
        with its:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "lepton_ai.engine.remote.worker", *arguments],
                pass_fds=[its.fileno()],
                stdin=subprocess.DEVNULL,
                env=_environment(),
            )
        link: Link[Command, Event] = Link(mine, msgspec.msgpack.Decoder(Event).decode)
        self.connection = Connection(link, self._how_it_ended)
        self._numbers = itertools.count(1)

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    def load(self, model: str, options: Mapping[str, OptionValue], progress: Progress) -> Future[Loaded]:
        """Load a model under a new name. The future has the name, and raises like ``LLM``."""
        name = f"model-{next(self._numbers)}"
        values = {key: _plain(value) for key, value in options.items()}
        return self.connection.load(LoadModel(name, model, values), progress)

    @property
    def ended(self) -> Future[LeptonError]:
        """Why the process is of no use any more, once that is so."""
        return self.connection.ended

    def ping(self) -> Future[Event]:
        """Ask for a sign of life, which comes between two steps. Raises EngineDied, or what else ended the process."""
        (id_,) = self.connection.new_ids(1)
        return self.connection.ask(id_, Ping(id_))

    def kill(self) -> None:
        """End the process now, whatever it does or does not: all who wait for it get EngineDied."""
        self._process.kill()

    def close(self) -> None:
        """End the process: what runs is cancelled. A second time does nothing."""
        self.connection.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> EngineProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _how_it_ended(self) -> str:
        try:
            status = self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            return "it no longer answers"
        return f"status {status}" if status >= 0 else f"signal {signal.Signals(-status).name}"


def _environment() -> dict[str, str]:
    """That of this process, but for its secret; and a file in the working directory does not pass for a module."""
    kept = {name: value for name, value in os.environ.items() if name != "LEPTON_API_KEY"}
    return with_huge_pages(kept) | {"PYTHONSAFEPATH": "1"}


def _plain(value: OptionValue) -> bool | int | str | list[str] | None:
    if isinstance(value, Policy):
        return value.value
    return value if value is None or isinstance(value, bool | int | str) else list(value)
