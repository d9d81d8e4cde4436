"""The process of an engine: ``python -m lepton_ai.engine.remote.worker FD ...`` serves the client behind a socket.

It ends when the client does, whatever became of it: its end of the socket is closed then. A step or the loading of a
model that goes on for longer is broken off.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict

import msgspec

from lepton_ai.config import Environment
from lepton_ai.engine.decoder import Decoder
from lepton_ai.engine.device import Device
from lepton_ai.engine.generator import make_compiler, make_engine
from lepton_ai.engine.load_options import LoadOptions
from lepton_ai.engine.loading import load
from lepton_ai.engine.model_info import model_info
from lepton_ai.engine.remote.host import EngineHost
from lepton_ai.engine.remote.hosted import HostedEncoder, HostedGenerator, HostedModel
from lepton_ai.engine.remote.link import Link, LinkClosed
from lepton_ai.engine.remote.messages import Command, Event, Loaded, LoadModel, Worked, Working
from lepton_ai.engine.text_encoder import TextEncoder

_UPDATE_S = 0.1
_LAST_STEP_S = 0.5
"""How long a client that has gone is outlived by the step under way."""


class ModelLoader:
    """Loads models onto one device."""

    def __init__(self, device: Device) -> None:
        self._device = device

    def __call__(self, command: LoadModel, send: Callable[[Event], None]) -> HostedModel:
        """See ``LoadHosted``."""
        progress = _RemoteProgress(command.name, send)
        environment = Environment.read()
        options = LoadOptions.from_values(command.options, environment, device=self._device, progress=progress)
        loaded = load(command.model, options, environment)
        known = asdict(model_info(command.model, loaded))
        info = {k: v if v is None or isinstance(v, int) else str(v) for k, v in known.items()}
        event = Loaded(command.name, info)
        runtime, texts = loaded.runtime, loaded.texts
        if isinstance(runtime, Decoder):
            compile_constraint = make_compiler(runtime, texts.tokenizer, texts.eos_ids).compile
            return HostedGenerator(event, make_engine(runtime, texts.eos_ids), compile_constraint, loaded.close)
        return HostedEncoder(event, TextEncoder(runtime, texts.tokenizer), loaded.close)


class _RemoteProgress:
    """A Progress that tells the client, some times a second."""

    def __init__(self, name: str, send: Callable[[Event], None]) -> None:
        self._name = name
        self._send = send
        self._told = 0.0

    def start(self, label: str, *, total_bytes: int, done_bytes: int) -> None:
        """A transfer begins."""
        self._send(Working(self._name, label, done_bytes, total_bytes))

    def update(self, done_bytes: int) -> None:
        """So much is there."""
        now = time.monotonic()
        if now - self._told >= _UPDATE_S:
            self._told = now
            self._send(Working(self._name, "", done_bytes, 0))

    def describe(self, text: str) -> None:
        """What is being done."""
        self._send(Working(self._name, text, 0, 0))

    def finish(self) -> None:
        """The work has ended."""
        self._send(Worked(self._name))


def serve(link: Link[Event, Command], host: EngineHost) -> None:
    """Handle commands and run steps until the client is gone."""
    poller = select.poll()
    poller.register(link.fileno(), select.POLLIN)
    poller.register(host.wake_fd, select.POLLIN)
    try:
        while True:
            if not host.has_work:
                poller.poll()
            for command in link.receive(wait=False):
                host.handle(command)
            host.take_in()
            host.step()
    except LinkClosed:
        link.close()


def end_with_client(fd: int) -> None:
    """Wait until the other end of a socket is closed, then end this process, whatever it is in the middle of."""
    poller = select.poll()
    poller.register(fd, select.POLLRDHUP)
    poller.poll()
    time.sleep(_LAST_STEP_S)
    os._exit(0)


def main(arguments: list[str]) -> None:
    """``FD``, then the number of threads and the bytes of memory, 0 for what the machine has."""
    # Terminals and service managers send these to a whole group; the client decides what becomes of this process.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    fd, num_threads, memory_bytes = map(int, arguments)
    threading.Thread(target=end_with_client, args=(os.dup(fd),), daemon=True).start()
    link: Link[Event, Command] = Link(socket.socket(fileno=fd), msgspec.msgpack.Decoder(Command).decode)
    device = Device(num_threads=num_threads or None, memory_bytes=memory_bytes or None)
    host = EngineHost(link.send, ModelLoader(device))
    serve(link, host)
    host.close()


if __name__ == "__main__":
    main(sys.argv[1:])
