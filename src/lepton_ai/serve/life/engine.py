"""A process with the models that are served."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from lepton_ai.config import Environment
from lepton_ai.engine.async_llm import AsyncLLM
from lepton_ai.engine.loading import is_encoder
from lepton_ai.engine.remote.process import EngineProcess
from lepton_ai.errors import LeptonError
from lepton_ai.weights.sources.progress import Progress

_OF_DECODERS = ("kv_dtype", "kv_memory_bytes", "max_model_len")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """What runs: ``models`` by the names they are served by, with the options of ``LLM`` for each. Those about KV
    memory and contexts are for the models that generate: encoders get them where no model does.
    """

    models: Mapping[str, str]
    num_threads: int | None = None
    memory_bytes: int | None = None
    model_options: Mapping[str, Any] = field(default_factory=dict)


class RunningEngine:
    """All models, loaded into one process."""

    def __init__(self, process: EngineProcess, llms: Mapping[str, AsyncLLM]) -> None:
        self.llms = llms
        self._process = process

    @classmethod
    async def start(cls, options: EngineOptions, progress: Progress) -> RunningEngine:
        """Start the process, and load. Raises like ``AsyncLLM.start``; nothing is left behind then."""
        process = EngineProcess(num_threads=options.num_threads, memory_bytes=options.memory_bytes)
        engine = cls(process, {})
        llms: dict[str, AsyncLLM] = {}
        try:
            for name, given in (await asyncio.to_thread(_options_of_each, options, progress)).items():
                llms[name] = await AsyncLLM.start(options.models[name], process=process, progress=progress, **given)
        except BaseException:
            engine.kill()  # a thread that waits for a model to be loaded is told so
            await engine.close()
            for llm in llms.values():
                await llm.close()
            raise
        engine.llms = llms
        return engine

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    @property
    def ended(self) -> Future[LeptonError]:
        """See ``EngineProcess``."""
        return self._process.ended

    def ping(self) -> Future[Any]:
        """See ``EngineProcess``."""
        return self._process.ping()

    def kill(self) -> None:
        """See ``EngineProcess``."""
        self._process.kill()

    async def close(self) -> None:
        """End the process, and let go of the models."""
        await asyncio.to_thread(self._process.close)
        for llm in self.llms.values():
            await llm.close()


def _options_of_each(options: EngineOptions, progress: Progress) -> Mapping[str, Mapping[str, Any]]:
    given = options.model_options
    each = dict.fromkeys(options.models, given)
    if all(given.get(name) is None for name in _OF_DECODERS):
        return each
    environment, allowed = Environment.read(), given.get("allow_config_keys", ())
    for_encoders = {name: value for name, value in given.items() if name not in _OF_DECODERS}
    encoders = [
        name
        for name, model in options.models.items()
        if is_encoder(model, environment, progress, allowed_config_keys=allowed)
    ]
    if len(encoders) == len(options.models):
        return each
    return each | dict.fromkeys(encoders, for_encoders)
