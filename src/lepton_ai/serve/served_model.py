"""A model under the name that requests call it by: all work for it passes here."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lepton_ai.engine.async_llm import AsyncLLM
from lepton_ai.engine.model_info import ModelInfo
from lepton_ai.engine.outputs import Completion
from lepton_ai.engine.prompt_encoder import PromptEncoder
from lepton_ai.engine.prompts import Prompt
from lepton_ai.engine.request_options import RequestOptions
from lepton_ai.engine.sampling_params import SamplingParams
from lepton_ai.engine.stats import EngineStats
from lepton_ai.engine.stream import Stream
from lepton_ai.engine.text_encoder import Text
from lepton_ai.serve.metrics.model_meter import ModelMeter
from lepton_ai.text.tokenizer import Tokenizer


class ServedModel:
    """What routes ask of a model, measured by ``meter``. Errors are those of ``AsyncLLM``."""

    def __init__(self, name: str, llm: AsyncLLM) -> None:
        self.name = name
        self._llm = llm
        self.meter = ModelMeter(max_model_len=llm.model_info.max_model_len)

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
        """What makes prompts of conversations."""
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

    async def generate(self, prompt: Prompt, params: SamplingParams, options: RequestOptions) -> list[Completion]:
        """The ``params.n`` completions of a prompt."""
        return await self._llm.generate(prompt, params, options=options, observe=self.meter.begin())

    async def streams(self, prompt: Prompt, params: SamplingParams, options: RequestOptions) -> list[Stream]:
        """The same, each piece by piece, once the engine has taken them."""
        return await self._llm.streams(prompt, params, options=options, observe=self.meter.begin())

    async def embed(self, texts: Sequence[Text]) -> NDArray[np.float32]:
        """A vector for each text, ``[n, C]`` f32."""
        with self.meter.encoding():
            return await self._llm.embed(texts)
