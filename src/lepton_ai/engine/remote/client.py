"""An ``EngineClient`` of a model in an engine's process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TypeAlias
from weakref import WeakSet

import numpy as np

from lepton_ai.backends.base import Float32Array, Int32Array
from lepton_ai.engine.client import EngineClient
from lepton_ai.engine.engine import check_token_ids
from lepton_ai.engine.generation import Generation, TextDecoder
from lepton_ai.engine.observer import Observe
from lepton_ai.engine.outputs import Chunk
from lepton_ai.engine.remote.connection import Connection, RemoteGeneration
from lepton_ai.engine.remote.messages import (
    Checked,
    CheckIntegrity,
    Classify,
    Embed,
    Event,
    GetStats,
    Stats,
    Submit,
    Vectors,
    encode_params,
    encode_text,
)
from lepton_ai.engine.request_options import RequestOptions
from lepton_ai.engine.sampling_params import SamplingParams
from lepton_ai.engine.stats import EngineStats
from lepton_ai.engine.text_encoder import Text
from lepton_ai.errors import InvalidRequest, LeptonError

MakeDecoder: TypeAlias = Callable[[SamplingParams], TextDecoder]


@dataclass(frozen=True, slots=True)
class Submission:
    """Generations that were sent. ``answer`` raises what the engine has against them."""

    generations: list[RemoteGeneration]
    answer: Future[Event]


class RemoteClient(EngineClient):
    """Requests to one model, called ``name`` there. ``eos_ids`` are its end tokens."""

    def __init__(
        self,
        connection: Connection,
        name: str,
        make_decoder: MakeDecoder,
        *,
        vocab_size: int,
        eos_ids: frozenset[int],
    ) -> None:
        self._connection = connection
        self._name = name
        self._make_decoder = make_decoder
        self._vocab_size = vocab_size
        self._eos_ids = frozenset(i for i in eos_ids if i < vocab_size)
        self._generations: WeakSet[RemoteGeneration] = WeakSet()
        self._is_closed = False

    @property
    def is_connected(self) -> bool:
        """Whether the engine's process is there still."""
        return self._connection.is_open

    def submit_all(
        self,
        prompts: Sequence[Sequence[int] | Int32Array],
        params: Sequence[SamplingParams],
        options: RequestOptions | None = None,
    ) -> list[RemoteGeneration]:
        """Queue several, ``num_generations`` for each prompt in turn, or none if one is refused."""
        submissions = [self.begin(ids, each, options) for ids, each in zip(prompts, params, strict=True)]
        generations = [generation for submission in submissions for generation in submission.generations]
        try:
            for submission in submissions:
                submission.answer.result()
        except BaseException:
            self._connection.cancel(generations)
            raise
        return generations

    def begin(
        self,
        prompt_ids: Sequence[int] | Int32Array,
        params: SamplingParams,
        options: RequestOptions | None = None,
        *,
        max_unread: int | None = None,
        observe: Observe | None = None,
    ) -> Submission:
        """Send a request without waiting for the answer. See ``RemoteGeneration`` for ``max_unread``.

        ``observe`` makes an observer for each generation.

        Raises InvalidRequest for an empty prompt or an unknown id in it.
        """
        self._check_open()
        prompt = check_token_ids(prompt_ids, vocab_size=self._vocab_size, name="prompt")
        ids = self._connection.new_ids(params.num_generations)
        stop_ids = frozenset(params.stop_ids) | (frozenset() if params.ignore_eos else self._eos_ids)
        generations = [
            RemoteGeneration(
                id_,
                params,
                len(prompt),
                stop_ids,
                self._make_decoder(params),
                max_unread=max_unread,
                observer=None if observe is None else observe(),
            )
            for id_ in ids
        ]
        wire = encode_params(params)
        command = Submit(self._name, ids, prompt.tobytes(), wire, options or RequestOptions())
        answer = self._connection.ask(ids[0], command, generations)
        self._generations.update(generations)
        return Submission(generations, answer)

    def next_chunk(self, generation: Generation) -> Chunk | None:
        """Wait for the next piece; None after the last. Raises LeptonError if the engine failed under it."""
        mine = _own(generation)
        if not mine.has_news:
            self._connection.wait(mine)
        return self._take(mine)

    async def next_chunk_async(self, generation: Generation) -> Chunk | None:
        """The same for a coroutine. One that is cancelled while it waits cancels the generation."""
        mine = _own(generation)
        try:
            while not mine.has_news:
                await self._connection.news_of(mine)
        except BaseException:
            self.cancel(mine)
            raise
        return self._take(mine)

    def cancel(self, generation: Generation) -> None:
        """Ask for the end of a generation, which then gets a last chunk. Never waits."""
        if not generation.is_finished:
            self._connection.cancel([_own(generation)])

    def fail(self, generation: Generation, error: LeptonError) -> None:
        """End a generation: who takes its next chunk gets ``error``. Never waits."""
        self._connection.fail(_own(generation), error)

    def close_generation(self, generation: Generation) -> None:
        """End a generation, and wait until all that it holds is free."""
        mine = _own(generation)
        if not mine.is_finished:
            self.cancel(mine)
            self._connection.wait_for_end(mine)

    def stats(self) -> EngineStats:
        """Counts and state, between two steps."""
        answer = self.get_stats().result()
        assert isinstance(answer, Stats)
        return answer.stats

    def check_integrity(self) -> None:
        """Assert the engine's invariants."""
        (id_,) = self._connection.new_ids(1)
        answer = self._connection.ask(id_, CheckIntegrity(id_, self._name)).result()
        assert isinstance(answer, Checked) and answer.problem is None, answer

    def embed(
        self, texts: Sequence[Text], *, pooling: str | None, normalize: bool | None, max_length: int | None
    ) -> Future[Event]:
        """Ask an encoder for vectors; ``vectors_of`` reads the answer. See ``LLM.embed``."""
        self._check_open()
        (id_,) = self._connection.new_ids(1)
        return self._connection.ask(
            id_, Embed(id_, self._name, list(map(encode_text, texts)), pooling, normalize, max_length)
        )

    def classify(self, texts: Sequence[Text], *, per_token: bool, max_length: int | None) -> Future[Event]:
        """Ask an encoder for ``Classes``, or ``TokenClasses``. See ``LLM.classify``."""
        self._check_open()
        (id_,) = self._connection.new_ids(1)
        return self._connection.ask(
            id_, Classify(id_, self._name, list(map(encode_text, texts)), per_token, max_length)
        )

    def get_stats(self) -> Future[Event]:
        """Ask for ``Stats``."""
        self._check_open()
        (id_,) = self._connection.new_ids(1)
        return self._connection.ask(id_, GetStats(id_, self._name))

    def close(self) -> None:
        """Let go of the model: what it runs is cancelled. Afterwards each use raises InvalidRequest."""
        if not self._is_closed:
            self._is_closed = True
            self._connection.unload(self._name)
            for generation in list(self._generations):
                self._connection.wait_for_end(generation)

    def _take(self, generation: RemoteGeneration) -> Chunk | None:
        chunk = generation.take()
        self._connection.was_read(generation)
        return chunk

    def _check_open(self) -> None:
        if self._is_closed:
            raise InvalidRequest("this LLM is closed")


def vectors_of(answer: Event) -> Float32Array:
    """``[n, C]`` from the answer to ``embed``."""
    assert isinstance(answer, Vectors)
    return np.frombuffer(bytearray(answer.data), np.float32).reshape(answer.num_rows, -1)


def _own(generation: Generation) -> RemoteGeneration:
    assert isinstance(generation, RemoteGeneration), "the generation is another client's"
    return generation
