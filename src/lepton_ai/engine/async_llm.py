"""A model for an event loop: it runs in a process of its own, and nothing here waits for a step."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, TypeVar

import numpy as np

from lepton_ai.backends.base import Float32Array, Int32Array
from lepton_ai.config import Environment
from lepton_ai.engine.choices import as_run, chosen
from lepton_ai.engine.client import check_single
from lepton_ai.engine.generator import make_text_decoder
from lepton_ai.engine.load_options import LoadOptions
from lepton_ai.engine.loading import TextSide, read_text_side
from lepton_ai.engine.model_info import ModelInfo
from lepton_ai.engine.observer import Observe
from lepton_ai.engine.outputs import Classification, Completion, LabeledToken, join_chunks
from lepton_ai.engine.prompt_encoder import ChatPrompt, PromptEncoder
from lepton_ai.engine.prompts import Message, Prompt, as_list, check_length
from lepton_ai.engine.remote.client import RemoteClient, vectors_of
from lepton_ai.engine.remote.connection import RemoteGeneration
from lepton_ai.engine.remote.messages import Classes, Stats, TokenClasses
from lepton_ai.engine.remote.process import EngineProcess, OptionValue
from lepton_ai.engine.request_options import RequestOptions
from lepton_ai.engine.sampling_params import SamplingParams
from lepton_ai.engine.stats import EngineStats
from lepton_ai.engine.stream import Stream
from lepton_ai.engine.text_encoder import Text
from lepton_ai.engine.text_front import TextFront
from lepton_ai.errors import InvalidRequest
from lepton_ai.models.registry import read_model
from lepton_ai.weights.checkpoint import Checkpoint, open_checkpoint
from lepton_ai.weights.sources.progress import NoProgress, Progress
from lepton_ai.weights.sources.resolve import resolve

_MAX_UNREAD = 256
_LONG_CHARACTERS = 4096
"""A prompt that is longer would keep the event loop waiting while it is cut into tokens."""

ResultT = TypeVar("ResultT")


class AsyncLLM(TextFront):
    """A model that generates, or an encoder, in a process of its own: made by ``start``, used in ``async with``.

    Texts become tokens, and tokens texts, in this process, by threads beside the event loop's. Several models may share
    a process, with its threads and its memory. If the process ends under it, whoever waits gets ``EngineDied``.
    """

    def __init__(
        self,
        process: EngineProcess,
        client: RemoteClient,
        checkpoint: Checkpoint,
        texts: TextSide,
        info: ModelInfo,
        *,
        owns_process: bool,
    ) -> None:
        super().__init__(texts)
        self.model_info = info
        self._process = process
        self._client = client
        self._checkpoint = checkpoint
        self._owns_process = owns_process
        self._long_texts = ThreadPoolExecutor(1, thread_name_prefix="lepton-texts")

    @classmethod
    async def start(
        cls,
        model: str | Path,
        *,
        process: EngineProcess | None = None,
        num_threads: int | None = None,
        progress: Progress | None = None,
        **options: OptionValue,
    ) -> AsyncLLM:
        """Load a model, in ``process`` if one is given. ``options`` are those of ``LLM`` but for ``device``.

        Raises like ``LLM``.
        """
        if process is not None and num_threads is not None:
            raise InvalidRequest("num_threads: expected none beside a process, which has its own", param="num_threads")
        made = await asyncio.to_thread(_start, model, process, num_threads, progress or NoProgress(), options)
        return cls(*made, owns_process=process is None)

    @property
    def is_running(self) -> bool:
        """Whether its process is there still."""
        return self._client.is_connected

    @property
    def engine_pid(self) -> int:
        """The number of its process."""
        return self._process.pid

    async def encode(self, prompt: Prompt) -> Int32Array:
        """The checked ids ``[T]`` of a prompt; a long one is cut in a thread. Raises like ``generate``."""
        if isinstance(prompt, str):
            is_short = len(prompt) < _LONG_CHARACTERS
            prompt = self.tokenizer.encode(prompt) if is_short else (await self.encode_texts([prompt]))[0]
        if isinstance(prompt, list | np.ndarray):  # before a million ids are looked at one by one
            check_length(prompt, self.model_info.max_model_len, name="prompt")
        return self._texts.prompts.encode(prompt)

    async def generate(
        self,
        prompt: Prompt,
        params: SamplingParams | None = None,
        *,
        options: RequestOptions | None = None,
        observe: Observe | None = None,
        watch: Callable[[Sequence[Stream]], None] | None = None,
    ) -> list[Completion]:
        """The ``params.n`` completions of a prompt; those that ``observe`` makes are told of each that is made.

        ``watch`` is given the streams that they are made of, not to be read: they tell how far the request has come,
        also when this is cancelled. Raises like ``LLM.generate``.
        """
        params = params or self.default_params
        ids = await self.encode(prompt)
        generations = await self._submit(ids, as_run(params), options, max_unread=None, observe=observe)
        streams = [Stream(self._client, generation) for generation in generations]
        if watch is not None:
            watch(streams)
        try:
            completions = [await _joined(stream) for stream in streams]
        finally:
            for stream in streams:
                stream.cancel()
        return chosen(iter(completions), [params])

    async def stream(
        self, prompt: Prompt, params: SamplingParams | None = None, *, options: RequestOptions | None = None
    ) -> Stream:
        """Complete a prompt piece by piece: ``async for chunk in await llm.stream(...)``.

        A reader who is 256 pieces behind makes the request wait, without memory, until half of them are read. Raises
        like ``LLM.stream``, before the first piece.
        """
        check_single(params or self.default_params)
        (stream,) = await self.streams(prompt, params, options=options)
        return stream

    async def streams(
        self,
        prompt: Prompt,
        params: SamplingParams | None = None,
        *,
        options: RequestOptions | None = None,
        observe: Observe | None = None,
    ) -> list[Stream]:
        """The same for each of the ``params.n`` completions of a prompt. The best of more cannot be streamed.

        ``observe`` is as in ``generate``. Raises like ``stream``.
        """
        params = params or self.default_params
        if params.num_generations > params.n:
            raise InvalidRequest(f"best_of: expected at most n in a stream, got {params.best_of}", param="best_of")
        ids = await self.encode(prompt)
        generations = await self._submit(ids, params, options, max_unread=_MAX_UNREAD, observe=observe)
        return [Stream(self._client, generation) for generation in generations]

    async def chat(
        self,
        messages: Sequence[Message],
        params: SamplingParams | None = None,
        *,
        options: RequestOptions | None = None,
    ) -> Completion:
        """Answer a conversation. Raises like ``LLM.chat``."""
        return await _joined(await self.chat_stream(messages, params, options=options))

    async def chat_stream(
        self,
        messages: Sequence[Message],
        params: SamplingParams | None = None,
        *,
        options: RequestOptions | None = None,
    ) -> Stream:
        """Answer a conversation piece by piece. Raises like ``LLM.chat_stream``, before the first piece."""
        return await self.stream((await self.make_chat_prompt(messages)).ids, params, options=options)

    @property
    def prompts(self) -> PromptEncoder:
        """What is known of the model's prompts and answers."""
        return self._texts.prompts

    async def make_chat_prompt(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, object]] | None = None,
        variables: Mapping[str, object] | None = None,
    ) -> ChatPrompt:
        """What ``chat`` answers, without keeping the event loop. Raises like ``LLM.chat_prompt``."""
        # In a thread, however short they are: a template is a program, and may run for seconds.
        make = partial(self._texts.prompts.chat, messages, tools=tools, variables=variables)
        return await self._beside(_num_characters(messages), make)

    async def encode_texts(self, texts: Sequence[Prompt], *, add_special_tokens: bool = True) -> list[list[int]]:
        """The ids of some texts, without keeping the event loop; what is ids already stays.

        Raises like ``Tokenizer.encode``.
        """

        def encode_all() -> list[list[int]]:
            encode = self.tokenizer.encode
            return [encode(t, add_special_tokens=add_special_tokens) if isinstance(t, str) else list(t) for t in texts]

        return await self._beside(sum(map(len, texts)), encode_all)

    async def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, without keeping the event loop. Raises like ``Tokenizer.decode``."""
        return await self._beside(len(ids), self.tokenizer.decode, ids)

    async def embed(
        self,
        texts: str | Sequence[Text],
        *,
        pooling: str | None = None,
        normalize: bool | None = None,
        max_length: int | None = None,
    ) -> Float32Array:
        """A vector for each text, ``[n, C]`` f32. Raises like ``LLM.embed``."""
        asked = self._client.embed(
            as_list(texts, name="texts"), pooling=pooling, normalize=normalize, max_length=max_length
        )
        return vectors_of(await asyncio.wrap_future(asked))

    async def classify(self, texts: str | Sequence[Text], *, max_length: int | None = None) -> list[Classification]:
        """The class of each text. Raises like ``LLM.classify``."""
        asked = self._client.classify(as_list(texts, name="texts"), per_token=False, max_length=max_length)
        answer = await asyncio.wrap_future(asked)
        assert isinstance(answer, Classes)
        return answer.classes

    async def classify_tokens(
        self, texts: str | Sequence[Text], *, max_length: int | None = None
    ) -> list[list[LabeledToken]]:
        """The class of each token of each text. Raises like ``LLM.classify_tokens``."""
        asked = self._client.classify(as_list(texts, name="texts"), per_token=True, max_length=max_length)
        answer = await asyncio.wrap_future(asked)
        assert isinstance(answer, TokenClasses)
        return answer.classes

    async def stats(self) -> EngineStats:
        """What the engine has done and holds. Raises InvalidRequest for a model that does not generate."""
        answer = await asyncio.wrap_future(self._client.get_stats())
        assert isinstance(answer, Stats)
        return answer.stats

    async def close(self) -> None:
        """Cancel what runs, and end the process if it is this model's own. A second time does nothing."""
        await asyncio.to_thread(self._process.close if self._owns_process else self._client.close)
        await asyncio.to_thread(self._long_texts.shutdown, cancel_futures=True)
        self._checkpoint.close()

    async def __aenter__(self) -> AsyncLLM:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _beside(self, num_characters: int, work: Callable[..., ResultT], *arguments: object) -> ResultT:
        """Work on texts, beside the event loop. Long ones wait for each other, and short ones not for them."""
        if num_characters < _LONG_CHARACTERS:
            return await asyncio.to_thread(work, *arguments)
        return await asyncio.get_running_loop().run_in_executor(self._long_texts, work, *arguments)

    async def _submit(
        self,
        ids: Int32Array,
        params: SamplingParams,
        options: RequestOptions | None,
        *,
        max_unread: int | None,
        observe: Observe | None,
    ) -> list[RemoteGeneration]:
        """Generations that the engine has taken."""
        submission = self._client.begin(ids, params, options, max_unread=max_unread, observe=observe)
        try:
            await asyncio.wrap_future(submission.answer)
        except BaseException:
            for generation in submission.generations:
                self._client.cancel(generation)
            raise
        return submission.generations


def _num_characters(value: object) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(map(_num_characters, value.values()))
    return sum(map(_num_characters, value)) if isinstance(value, Sequence) else 0


async def _joined(stream: Stream) -> Completion:
    return join_chunks([chunk async for chunk in stream])


class _Started(NamedTuple):
    process: EngineProcess
    client: RemoteClient
    checkpoint: Checkpoint
    texts: TextSide
    info: ModelInfo


def _start(
    model: str | Path,
    process: EngineProcess | None,
    num_threads: int | None,
    progress: Progress,
    options: Mapping[str, OptionValue],
) -> _Started:
    """Load a model there, and read its texts here. Undone if either fails."""
    environment = Environment.read()
    path = resolve(model, environment, progress)
    with ExitStack() as undo:
        checkpoint = open_checkpoint(path, environment.home)
        undo.callback(checkpoint.close)
        if process is None:
            process = EngineProcess(num_threads=num_threads)
            undo.callback(process.close)
        loading = process.load(str(path), options, progress)
        allowed = LoadOptions.from_values(options, environment, device=None, progress=progress).allow_config_keys
        family, _ = read_model(checkpoint, allowed_config_keys=allowed)
        texts = read_text_side(path, checkpoint, family, environment)
        texts.tokenizer.load()
        loaded = loading.result()
        info = replace(ModelInfo(**loaded.info), name=str(model), path=path)  # type: ignore[arg-type]  # as sent
        client = RemoteClient(
            process.connection,
            loaded.name,
            lambda params: make_text_decoder(texts.tokenizer, params),
            vocab_size=info.vocab_size,
            eos_ids=texts.eos_ids,
        )
        undo.pop_all()
        return _Started(process, client, checkpoint, texts, info)
