"""The models of an engine's process: commands in, events out.

One thread leads it: it handles commands and runs steps, of each model with work in turn. What would keep steps waiting
(loading a model, compiling a constraint, an encoder's texts) runs in other threads, whose results the leading one takes
in between two steps.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Protocol, TypeVar

from lepton_ai.engine.remote.hosted import HostedEncoder, HostedGenerator, HostedModel
from lepton_ai.engine.remote.messages import (
    Accepted,
    Cancel,
    Checked,
    CheckIntegrity,
    Classify,
    Command,
    Embed,
    ErrorMessage,
    Event,
    Failed,
    GetStats,
    LoadFailed,
    LoadModel,
    Pause,
    Ping,
    Pong,
    Resume,
    Stats,
    Submit,
    UnloadModel,
)
from lepton_ai.errors import InvalidRequest, LeptonError

ModelT = TypeVar("ModelT", HostedGenerator, HostedEncoder)
ResultT = TypeVar("ResultT")

_NUM_HELPERS = 2


class LoadHosted(Protocol):
    """Loads a model, in a thread of its own, and says how far it is."""

    def __call__(self, command: LoadModel, send: Callable[[Event], None]) -> HostedModel:
        """The model. Raises LeptonError."""
        ...


class EngineHost:
    """``send`` may be called from any thread. ``wake_fd`` is readable when another thread has a result for this one."""

    def __init__(self, send: Callable[[Event], None], load: LoadHosted) -> None:
        self._send = send
        self._load = load
        self._models: dict[str, HostedModel] = {}
        self._helpers = ThreadPoolExecutor(_NUM_HELPERS, thread_name_prefix="lepton-helper")
        self._results: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._compiling: set[int] = set()
        self.wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    @property
    def has_work(self) -> bool:
        """Whether a step would do anything."""
        return any(model.has_work for model in self._models.values())

    def handle(self, command: Command) -> None:
        """Do what a client asks; what is wrong with it is answered, not raised."""
        match command:
            case LoadModel():
                self._load_model(command)
            case UnloadModel(name):
                self._unload_model(name)
            case Submit():
                self._answer(command.ids[0], lambda: self._submit(command))
            case Cancel():
                self._cancel(command.ids)
            case Pause(id_) | Resume(id_):
                for model in self._generators():
                    model.pause(id_) if isinstance(command, Pause) else model.resume(id_)
            case Embed():
                self._answer(command.id, lambda: self._encode(command))
            case Classify():
                self._answer(command.id, lambda: self._encode(command))
            case GetStats(id_, name):
                self._answer(id_, lambda: self._send(Stats(id_, self._model(name, HostedGenerator).stats())))
            case CheckIntegrity(id_, name):
                self._answer(id_, lambda: self._check(id_, name))
            case Ping(id_):
                self._send(Pong(id_))

    def take_in(self) -> None:
        """Take in what other threads have finished."""
        with suppress(BlockingIOError):
            os.eventfd_read(self.wake_fd)
        with suppress(Empty):
            while True:
                self._results.get_nowait()()

    def step(self) -> None:
        """Run a step of each model with work."""
        for model in self._models.values():
            if model.has_work:
                for event in model.step():
                    self._send(event)

    def close(self) -> None:
        """Let go of the models, when what runs beside has ended."""
        self._helpers.shutdown(wait=True, cancel_futures=True)
        for model in self._models.values():
            model.close()
        os.close(self.wake_fd)

    def _load_model(self, command: LoadModel) -> None:
        def install(model: HostedModel) -> None:
            self._models[command.name] = model
            self._send(model.loaded)

        def refuse(error: LeptonError) -> None:
            self._send(LoadFailed(command.name, as_message(error)))

        self._beside(lambda: self._load(command, self._send), install, refuse)

    def _unload_model(self, name: str) -> None:
        model = self._models.pop(name, None)
        if isinstance(model, HostedGenerator):
            for event in model.cancel_all():
                self._send(event)
        if model is not None:
            model.close()

    def _submit(self, command: Submit) -> None:
        model = self._model(command.name, HostedGenerator)
        if "constraint" not in command.params:
            model.add(command.ids, model.prepare(command))
            return self._send(Accepted(command.ids[0]))
        self._compiling.update(command.ids)
        first = command.ids[0]

        def add(requests: HostedGenerator.Prepared) -> None:
            wanted = [i for i in command.ids if i in self._compiling]
            self._compiling.difference_update(command.ids)
            self._send(Accepted(first))
            model.add(command.ids, requests)
            self._cancel([i for i in command.ids if i not in wanted])

        def refuse(error: LeptonError) -> None:
            self._compiling.difference_update(command.ids)
            self._send(Failed(first, as_message(error)))

        self._beside(lambda: model.prepare(command), add, refuse)

    def _cancel(self, ids: list[int]) -> None:
        self._compiling.difference_update(ids)
        for model in self._generators():
            for event in model.cancel(ids):
                self._send(event)

    def _encode(self, command: Embed | Classify) -> None:
        model = self._model(command.name, HostedEncoder)
        self._beside(
            lambda: model.run(command), self._send, lambda error: self._send(Failed(command.id, as_message(error)))
        )

    def _check(self, id_: int, name: str) -> None:
        try:
            self._model(name, HostedGenerator).check_integrity()
        except AssertionError as problem:
            self._send(Checked(id_, str(problem)))
        else:
            self._send(Checked(id_, None))

    def _beside(
        self, work: Callable[[], ResultT], finish: Callable[[ResultT], None], refuse: Callable[[LeptonError], None]
    ) -> None:
        """Do ``work`` in another thread; one of the other two runs in this one, between two steps."""

        def run() -> None:
            try:
                result = work()
            except LeptonError as error:
                refused = error
                self._results.put(lambda: refuse(refused))
            except Exception as error:
                stopped = LeptonError(f"the engine stopped: {error!r}")
                self._results.put(lambda: refuse(stopped))
            else:
                self._results.put(lambda: finish(result))
            os.eventfd_write(self.wake_fd, 1)

        self._helpers.submit(run)

    def _answer(self, id_: int, handle: Callable[[], None]) -> None:
        try:
            handle()
        except LeptonError as error:
            self._send(Failed(id_, as_message(error)))

    def _model(self, name: str, kind: type[ModelT]) -> ModelT:
        model = self._models.get(name)
        if model is None:
            raise InvalidRequest(f"model: expected one of {sorted(self._models)}, got {name!r:.80}", param="model")
        if not isinstance(model, kind):
            wanted = "a model that generates" if kind is HostedGenerator else "an encoder"
            raise InvalidRequest(f"model: expected {wanted}, got {name!r:.80}", param="model")
        return model

    def _generators(self) -> list[HostedGenerator]:
        return [model for model in self._models.values() if isinstance(model, HostedGenerator)]


def as_message(error: LeptonError) -> ErrorMessage:
    """An error as it goes to the client."""
    return ErrorMessage(error.code, error.message, error.param)
