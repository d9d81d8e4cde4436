"""A model under the name that requests call it by: all work for it passes here."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lepton_ai.engine.async_llm import AsyncLLM
from lepton_ai.engine.model_info import ModelInfo
from lepton_ai.engine.observer import Observe
from lepton_ai.engine.outputs import Completion
from lepton_ai.engine.prompt_encoder import ChatPrompt, PromptEncoder
from lepton_ai.engine.prompts import Message, Prompt
from lepton_ai.engine.sampling_params import SamplingParams
from lepton_ai.engine.stats import EngineStats
from lepton_ai.engine.stream import Stream
from lepton_ai.errors import InvalidRequest
from lepton_ai.serve.admission.admission import Claim
from lepton_ai.serve.admission.price import least_price, price, price_of_text
from lepton_ai.serve.caller import Caller
from lepton_ai.serve.life.work import Desk
from lepton_ai.serve.metrics.model_meter import ModelMeter
from lepton_ai.text.tokenizer import Tokenizer

_MAX_PROMPT_LOGPROBS = 1 << 18


class ServedModel:
    """What routes ask of a model, measured by ``meter``.

    Work is let in by ``desk`` first: beside the errors of ``AsyncLLM`` there are QueueFull, EngineRestarting and
    DeadlineExceeded, and ShuttingDown when the server ends under it.
    """

    def __init__(self, name: str, llm: AsyncLLM, desk: Desk) -> None:
        self.name = name
        self._llm = llm
        self._desk = desk
        self.meter = ModelMeter(max_model_len=llm.model_info.max_model_len)

    def replace(self, llm: AsyncLLM) -> None:
        """Go on with the same model in another process."""
        self._llm = llm

    @property
    def info(self) -> ModelInfo:
        """What was loaded, and how it runs."""
        return self._llm.model_info

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        return self._llm.tokenizer

    @property
    def default_params(self) -> SamplingParams:
        """What holds where a request does not say."""
        return self._llm.default_params

    @property
    def prompts(self) -> PromptEncoder:
        """What is known of the model's prompts and answers."""
        return self._llm.prompts

    @property
    def generates(self) -> bool:
        """Whether it is a decoder, which has statistics, and no encoder."""
        return self.info.kv_dtype is not None

    @property
    def is_running(self) -> bool:
        """Whether its engine's process is there."""
        return self._llm.is_running

    @property
    def engine_pid(self) -> int:
        """The number of its engine's process."""
        return self._llm.engine_pid

    async def stats(self) -> EngineStats:
        """What its engine has done and holds."""
        return await self._llm.stats()

    async def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """The token ids of a text."""
        (ids,) = await self._llm.encode_texts([text], add_special_tokens=add_special_tokens)
        return ids

    async def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids."""
        return await self._llm.decode(ids)

    async def chat_prompt(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, object]] | None,
        variables: Mapping[str, object] | None,
    ) -> ChatPrompt:
        """What an answer to a conversation continues: see ``PromptEncoder.chat``.

        Raises QueueFull before it is made, if there is no room even for less.
        """
        contents = (message.get("content") for message in messages)
        self._check_room(content for content in contents if isinstance(content, str))
        return await self._llm.make_chat_prompt(messages, tools=tools, variables=variables)

    async def generate(self, prompt: Prompt, params: SamplingParams, caller: Caller) -> list[Completion]:
        """The ``params.n`` completions of a prompt."""
        (completions,) = await self.generate_each([prompt], params, caller)
        return completions

    async def generate_each(
        self, prompts: Sequence[Prompt], params: SamplingParams, caller: Caller
    ) -> list[list[Completion]]:
        """The same for each of several prompts, which are let in together or not at all."""
        self._check_kind(generates=True)
        observe = self.meter.begin()
        encoded = await self._encode(prompts)
        with self._desk.begin(self._claim(encoded, params, caller), caller.deadline) as work:
            return await work.run(_generate_each(self._llm, encoded, params, caller, observe))

    async def streams(self, prompt: Prompt, params: SamplingParams, caller: Caller) -> list[Stream]:
        """The completions of a prompt, each piece by piece, once the engine has taken them."""
        (streams,) = await self.streams_each([prompt], params, caller)
        return streams

    async def streams_each(
        self, prompts: Sequence[Prompt], params: SamplingParams, caller: Caller
    ) -> list[list[Stream]]:
        """The same for each of several prompts, which are let in together or not at all."""
        self._check_kind(generates=True)
        observe = self.meter.begin()
        encoded = await self._encode(prompts)
        work = self._desk.begin(self._claim(encoded, params, caller), caller.deadline)
        try:
            opened = await work.run(_open_each(self._llm, encoded, params, caller, observe))
        except BaseException:
            work.close()
            raise
        work.hand_over([stream for streams in opened for stream in streams])
        return opened

    async def embed(self, texts: Sequence[Prompt], caller: Caller) -> NDArray[np.float32]:
        """A vector for each text, ``[n, C]`` f32."""
        self._check_kind(generates=False)
        work = sum(price_of_text(len(text)) if isinstance(text, str) else len(text) for text in texts)
        claim = Claim(self.name, caller.key, 1, work)
        with self.meter.encoding(), self._desk.begin(claim, caller.deadline) as begun:
            ids = await self._llm.encode_texts(texts)
            caller.tally.add_prompt(sum(map(len, ids)))
            return await begun.run(self._llm.embed(ids))

    def _check_kind(self, *, generates: bool) -> None:
        """Raise InvalidRequest if it is of the other kind. Its engine would too, and knows it by another name."""
        if self.generates is not generates:
            wanted = "one that generates" if generates else "an encoder"
            raise InvalidRequest(f"model: expected {wanted}, got {self.name!r:.80}", param="model")

    async def _encode(self, prompts: Sequence[Prompt]) -> list[NDArray[np.int32]]:
        self._check_room(prompt for prompt in prompts if isinstance(prompt, str))
        return [await self._llm.encode(prompt) for prompt in prompts]

    def _check_room(self, texts: Iterable[str]) -> None:
        """Cutting a long text into tokens takes a while: not for a queue that is full."""
        self._desk.check(self.name, sum(least_price(len(text)) for text in texts))

    def _claim(self, prompts: Sequence[NDArray[np.int32]], params: SamplingParams, caller: Caller) -> Claim:
        _check_num_logprobs(prompts, params)
        work = sum(price(len(ids), params, max_model_len=self.info.max_model_len) for ids in prompts)
        return Claim(self.name, caller.key, len(prompts) * params.num_generations, work)


def _check_num_logprobs(prompts: Sequence[NDArray[np.int32]], params: SamplingParams) -> None:
    """Raise InvalidRequest where the log-probabilities of prompts, once for each completion, would fill the memory."""
    if params.prompt_logprobs is not None:
        num_tokens = sum(map(len, prompts)) * params.num_generations
        num_logprobs = num_tokens * (params.prompt_logprobs + 1)
        if num_logprobs > _MAX_PROMPT_LOGPROBS:
            raise InvalidRequest(
                f"logprobs: expected at most {_MAX_PROMPT_LOGPROBS} of the prompts of all completions, "
                f"got {num_logprobs}",
                param="logprobs",
            )


async def _generate_each(
    llm: AsyncLLM,
    prompts: Sequence[NDArray[np.int32]],
    params: SamplingParams,
    caller: Caller,
    observe: Observe,
) -> list[list[Completion]]:
    """If one fails, none goes on."""
    works = (
        llm.generate(ids, params, options=caller.options, observe=observe, watch=caller.tally.watch) for ids in prompts
    )
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _open_each(
    llm: AsyncLLM,
    prompts: Sequence[NDArray[np.int32]],
    params: SamplingParams,
    caller: Caller,
    observe: Observe,
) -> list[list[Stream]]:
    """If one is refused, none goes on."""
    opened: list[list[Stream]] = []
    try:
        for ids in prompts:
            opened.append(await llm.streams(ids, params, options=caller.options, observe=observe))
            caller.tally.watch(opened[-1])
    except BaseException:
        for stream in (stream for streams in opened for stream in streams):
            stream.cancel()
        raise
    return opened
