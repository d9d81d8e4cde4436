"""The client's end of an engine's process: commands out, events in, each to whom it belongs."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from queue import SimpleQueue
from typing import NamedTuple

from lepton_ai.engine.generation import Generation, TextDecoder
from lepton_ai.engine.observer import GenerationObserver
from lepton_ai.engine.remote.link import Link, LinkClosed, ProtocolError
from lepton_ai.engine.remote.messages import (
    Cancel,
    Cancelled,
    Command,
    Event,
    Failed,
    Loaded,
    LoadFailed,
    LoadModel,
    Pause,
    Resume,
    Token,
    Tokens,
    UnloadModel,
    Worked,
    Working,
)
from lepton_ai.engine.request import FinishReason
from lepton_ai.engine.sampling_params import SamplingParams
from lepton_ai.errors import EngineDied, InvalidRequest, LeptonError, rebuild
from lepton_ai.weights.sources.progress import Progress


class RemoteGeneration(Generation):
    """A generation and the number under which the process knows it; ``observer`` is told of its tokens.

    With ``max_unread``, it is paused while that many of its chunks have not been taken, and goes on at half of them.
    """

    def __init__(
        self,
        id_: int,
        params: SamplingParams,
        num_prompt_tokens: int,
        stop_ids: frozenset[int],
        decoder: TextDecoder,
        *,
        max_unread: int | None,
        observer: GenerationObserver | None = None,
    ) -> None:
        super().__init__(params, num_prompt_tokens, stop_ids, decoder)
        self.id = id_
        self.max_unread = max_unread
        self.observer = observer
        self.is_paused = False
        self.waiters: list[asyncio.Future[None]] = []

    @property
    def num_siblings(self) -> int:
        """How many generations one request asked for with it, whose numbers follow on each other."""
        return self._params.num_generations

    @property
    def has_news(self) -> bool:
        """Whether there is something to take."""
        return bool(self.chunks) or self.is_finished

    def tell_end(self) -> None:
        """Tell the observer that it has ended."""
        if self.observer is not None:
            assert self.finish_reason is not None
            self.observer.on_end(time.monotonic(), self.finish_reason, self.usage)


class _Loading(NamedTuple):
    future: Future[Loaded]
    progress: Progress


class Connection:
    """Two threads: one receives, one sends what others put in a queue where they would have to wait themselves.

    The receiving one also makes text of tokens, and finds stop strings. Made with a connected ``link``; ``describe``
    says what became of a process whose end of it is closed.
    """

    def __init__(self, link: Link[Command, Event], describe: Callable[[], str]) -> None:
        self._link = link
        self._describe = describe
        self._outgoing: SimpleQueue[Command | None] = SimpleQueue()
        self._lock = threading.Lock()  # guards what follows
        self._news = threading.Condition(self._lock)
        self._last_id = 0
        self._generations: dict[int, RemoteGeneration] = {}
        self._replies: dict[int, Future[Event]] = {}
        self._loading: dict[str, _Loading] = {}
        self._woken: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
        self._received_at = 0.0
        self._end: LeptonError | None = None
        self.ended: Future[LeptonError] = Future()
        """Why nothing comes any more, once that is so."""
        self.ended.set_running_or_notify_cancel()  # so that none of those who wait can cancel it
        self._threads = [
            threading.Thread(target=target, name=f"lepton-{target.__name__.strip('_')}", daemon=True)
            for target in (self._send_all, self._receive_all)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def is_open(self) -> bool:
        """Whether the process is at the other end still."""
        return self._end is None

    def new_ids(self, count: int) -> list[int]:
        """Numbers that were never used, one after the other."""
        with self._lock:
            first = self._last_id + 1
            self._last_id += count
        return list(range(first, first + count))

    def load(self, command: LoadModel, progress: Progress) -> Future[Loaded]:
        """Ask for a model. The future raises what loading it raised."""
        future: Future[Loaded] = Future()
        with self._lock:
            self._check_open()
            self._loading[command.name] = _Loading(future, progress)
        self._outgoing.put(command)
        return future

    def ask(self, id_: int, command: Command, generations: list[RemoteGeneration] | None = None) -> Future[Event]:
        """Send a command that is answered under ``id_``; tokens of ``generations`` come after the answer."""
        future: Future[Event] = Future()
        future.set_running_or_notify_cancel()  # so that the answer never comes to one that was cancelled
        with self._lock:
            self._check_open()
            self._replies[id_] = future
            for generation in generations or ():
                self._generations[generation.id] = generation
        if not self._sends_now(command):
            self._outgoing.put(command)
        return future

    def wait(self, generation: RemoteGeneration) -> None:
        """Until the generation has news."""
        with self._news:
            self._news.wait_for(lambda: generation.has_news)

    def wait_for_end(self, generation: RemoteGeneration) -> None:
        """Until nothing more comes of the generation."""
        with self._news:
            self._news.wait_for(lambda: generation.is_finished)

    def news_of(self, generation: RemoteGeneration) -> asyncio.Future[None]:
        """The same for a coroutine, to be awaited."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._lock:
            if generation.has_news:
                future.set_result(None)
            else:
                generation.waiters.append(future)
        return future

    def was_read(self, generation: RemoteGeneration) -> None:
        """A chunk was taken: a generation that waited for that goes on."""
        if generation.is_paused and len(generation.chunks) <= (generation.max_unread or 0) // 2:
            generation.is_paused = False
            self._outgoing.put(Resume(generation.id))

    def cancel(self, generations: list[RemoteGeneration]) -> None:
        """Ask for the end of generations. Takes no lock: a signal handler may call it."""
        self._outgoing.put(Cancel([generation.id for generation in generations]))

    def fail(self, generation: RemoteGeneration, error: LeptonError) -> None:
        """End a generation with an error, here at once and soon in the process. One that has ended is left alone."""
        with self._lock:
            if self._generations.pop(generation.id, None) is None:
                return
            generation.fail(error)
            generation.tell_end()
            self._wake(generation)
            self._tell()
        self._outgoing.put(Cancel([generation.id]))

    def unload(self, name: str) -> None:
        """Let go of a model. Nothing happens when the connection has ended: so have its models."""
        self._outgoing.put(UnloadModel(name))

    def close(self) -> None:
        """End the connection: what runs is cancelled. Each later use raises InvalidRequest. May be called again."""
        self._fail(InvalidRequest("this LLM is closed"))
        self._outgoing.put(None)
        self._link.close()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()

    def _check_open(self) -> None:
        if self._end is not None:
            raise self._end

    def _sends_now(self, command: Command) -> bool:
        """Send a command that nothing in the queue must come before: waking a thread for it takes as long as it."""
        with suppress(LinkClosed, ProtocolError, OverflowError, TypeError, ValueError):  # the thread deals with these
            return self._link.send_now(command)
        return False

    def _send_all(self) -> None:
        with suppress(LinkClosed):  # the receiving thread notices too
            while (command := self._outgoing.get()) is not None:
                try:
                    self._link.send(command)
                except ProtocolError as error:
                    self._fail(error)
                except (OverflowError, TypeError, ValueError) as error:  # of ours: all commands are checked before
                    self._fail(LeptonError(f"the client of an engine failed: {error!r}"))

    def _receive_all(self) -> None:
        try:
            while True:
                events = self._link.receive(wait=True)
                with self._lock:
                    self._received_at = time.monotonic()
                    for event in events:
                        self._take(event)
                    self._tell()
        except LinkClosed:
            self._fail(EngineDied(f"the engine's process has ended: {self._describe()}"))
        except ProtocolError as error:
            self._fail(error)
        except Exception as error:  # nobody is left to tell but those who wait
            self._fail(LeptonError(f"the client of an engine failed: {error!r}"))

    def _take(self, event: Event) -> None:
        match event:
            case Tokens(tokens):
                for token in tokens:
                    self._take_token(token)
            case Cancelled(id_, num_cached_tokens):
                generation = self._generations.pop(id_, None)
                if generation is not None:
                    generation.num_cached_tokens = num_cached_tokens
                    generation.finish(FinishReason.CANCELLED)
                    generation.tell_end()
                    self._wake(generation)
            case Failed(id_, error):
                self._refuse(id_, rebuild(error.code, error.message, error.param))
            case Working() | Worked():
                _show(event, self._loading[event.name].progress)
            case Loaded(name):
                self._loading.pop(name).future.set_result(event)
            case LoadFailed(name, error):
                self._loading.pop(name).future.set_exception(rebuild(error.code, error.message, error.param))
            case _:
                self._replies.pop(event.id).set_result(event)

    def _take_token(self, token: Token) -> None:
        generation = self._generations.get(token.id)
        if generation is None:  # it ended here, by a stop string
            return
        generation.num_cached_tokens = token.num_cached_tokens
        if token.prompt_logprobs is not None:
            generation.prompt_logprobs = token.prompt_logprobs
        reason = None if token.finish_reason is None else FinishReason(token.finish_reason)
        generation.push(token.token_id, token.logprob, reason)
        if generation.observer is not None and token.token_id is not None:
            generation.observer.on_token(self._received_at)
        self._wake(generation)
        if generation.is_finished:
            generation.tell_end()
            del self._generations[token.id]
            if reason is None:
                self._outgoing.put(Cancel([token.id]))
        elif len(generation.chunks) == generation.max_unread and not generation.is_paused:
            generation.is_paused = True
            self._outgoing.put(Pause(token.id))

    def _refuse(self, id_: int, error: LeptonError) -> None:
        """What was asked is refused, with all its generations, or one generation failed under way."""
        reply = self._replies.pop(id_, None)
        if reply is not None:
            reply.set_exception(error)
        first = self._generations.get(id_)
        count = 1 if reply is None or first is None else first.num_siblings
        for number in range(id_, id_ + count):
            if (generation := self._generations.pop(number, None)) is not None:
                generation.fail(error)
                if reply is None:  # the engine had taken it
                    generation.tell_end()
                self._wake(generation)

    def _fail(self, end: LeptonError) -> None:
        """Nothing comes any more: tell everyone who waits. The first reason stays."""
        with self._lock:
            if self._end is not None:
                return
            self._end = end
            for generation in self._generations.values():
                if isinstance(end, InvalidRequest):  # closed on purpose
                    generation.finish(FinishReason.CANCELLED)
                else:
                    generation.fail(end)
                generation.tell_end()
                self._wake(generation)
            self._generations.clear()
            for reply in self._replies.values():
                reply.set_exception(end)
            self._replies.clear()
            for loading in self._loading.values():
                loading.progress.finish()
                loading.future.set_exception(end)
            self._tell()
        self.ended.set_result(end)

    def _wake(self, generation: RemoteGeneration) -> None:
        """Have ``_tell`` tell the coroutines that wait for the generation."""
        for future in generation.waiters:
            self._woken.setdefault(future.get_loop(), []).append(future)
        generation.waiters.clear()

    def _tell(self) -> None:
        """Wake whoever has news: threads, and each event loop once, as that takes a system call."""
        self._news.notify_all()
        for loop, futures in self._woken.items():
            with suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(_resolve, futures)
        self._woken.clear()


def _show(event: Working | Worked, progress: Progress) -> None:
    match event:
        case Worked():
            progress.finish()
        case Working(_, text, done_bytes, total_bytes) if total_bytes:
            progress.start(text, total_bytes=total_bytes, done_bytes=done_bytes)
        case Working(_, text) if text:
            progress.describe(text)
        case Working(_, _, done_bytes):
            progress.update(done_bytes)


def _resolve(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():  # its coroutine was cancelled
            future.set_result(None)
