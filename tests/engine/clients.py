"""A fake engine behind each kind of client: in this process, and at the other end of a socket."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Protocol

import msgspec
from tests.engine.fakes import EOS_ID, VOCAB_SIZE, ByteDecoder, FakeCache, FakeExecutable, config, no_constraints

from lepton_ai.engine.client import EngineClient
from lepton_ai.engine.constraints.constraint import Constraint
from lepton_ai.engine.constraints.token_matcher import TokenMatcher
from lepton_ai.engine.engine import Engine
from lepton_ai.engine.generation import Generation
from lepton_ai.engine.local_client import LocalClient
from lepton_ai.engine.outputs import Chunk
from lepton_ai.engine.remote.client import RemoteClient
from lepton_ai.engine.remote.connection import Connection
from lepton_ai.engine.remote.host import EngineHost
from lepton_ai.engine.remote.hosted import HostedGenerator
from lepton_ai.engine.remote.link import Link
from lepton_ai.engine.remote.messages import Command, Event, Loaded, LoadModel
from lepton_ai.engine.remote.worker import serve
from lepton_ai.engine.sampling_params import SamplingParams
from lepton_ai.weights.sources.progress import NoProgress


class Setup:
    """A client, and what its engine computes with."""

    def __init__(self, client: EngineClient, executable: FakeExecutable, engine: Engine) -> None:
        self.client = client
        self.executable = executable
        self.engine = engine

    def chunks(self, generation: Generation) -> Iterator[Chunk]:
        while (chunk := self.client.next_chunk(generation)) is not None:
            yield chunk

    def text(self, prompt: list[int], **params: object) -> str:
        made = SamplingParams(temperature=0.0, **params)  # type: ignore[arg-type]
        return "".join(c.text for c in self.chunks(self.client.submit(prompt, made)))

    def close(self) -> None:
        self.client.close()


class MakeSetup(Protocol):
    def __call__(self, *, max_tokens: int = 64, num_blocks: int = 64) -> Setup: ...


def make_decoder(params: SamplingParams) -> ByteDecoder:
    return ByteDecoder(params.stop_strings)


def local_setup(*, max_tokens: int = 64, num_blocks: int = 64) -> Setup:
    made = config(max_tokens=max_tokens)
    executable = FakeExecutable(made.limits)
    engine = Engine(executable, FakeCache(num_blocks), made)
    return Setup(LocalClient(engine, make_decoder, no_constraints), executable, engine)


class RemoteSetup(Setup):
    """The loop of an engine's process in a thread: what goes over the socket is the same."""

    client: RemoteClient

    def __init__(
        self,
        *,
        max_tokens: int = 64,
        num_blocks: int = 64,
        compile_constraint: Callable[[Constraint], TokenMatcher] = no_constraints,
    ) -> None:
        made = config(max_tokens=max_tokens)
        executable = FakeExecutable(made.limits)
        engine = Engine(executable, FakeCache(num_blocks), made)
        mine, its = socket.socketpair()
        self.link: Link[Event, Command] = Link(its, msgspec.msgpack.Decoder(Command).decode)
        hosted = HostedGenerator(Loaded("fake", {}), engine, compile_constraint)
        self.host = EngineHost(self.link.send, lambda command, send: hosted)
        self.thread = threading.Thread(target=serve, args=(self.link, self.host))
        self.thread.start()
        its_link: Link[Command, Event] = Link(mine, msgspec.msgpack.Decoder(Event).decode)
        self.connection = Connection(its_link, lambda: "a test's thread")
        self.connection.load(LoadModel("fake", "fake", {}), NoProgress()).result(10)
        client = RemoteClient(self.connection, "fake", make_decoder, vocab_size=VOCAB_SIZE, eos_ids=frozenset({EOS_ID}))
        super().__init__(client, executable, engine)

    def close(self) -> None:
        self.connection.close()
        self.thread.join(10)
        assert not self.thread.is_alive(), "the engine did not notice that its client has gone"
        self.host.close()


def remote_setup(*, max_tokens: int = 64, num_blocks: int = 64) -> Setup:
    return RemoteSetup(max_tokens=max_tokens, num_blocks=num_blocks)
