"""A process with the models that are served."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from lepton_ai.engine.async_llm import AsyncLLM
from lepton_ai.engine.remote.process import EngineProcess
from lepton_ai.errors import LeptonError
from lepton_ai.weights.sources.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """What runs: ``models`` by the names they are served by, with the options of ``LLM`` for each."""

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
            for name, model in options.models.items():
                llms[name] = await AsyncLLM.start(model, process=process, progress=progress, **options.model_options)
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
