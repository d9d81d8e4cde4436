"""What the engines say of themselves, as far as they answer in time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from lepton_ai.engine.stats import EngineStats
from lepton_ai.serve.served_model import ServedModel


class EngineWatch:
    """``last`` has what each engine said last, ``up`` whether it answered when it was asked last.

    A question that is not answered in time stays open: an engine that hangs has one to answer, however often it is
    looked at. Of an encoder, which keeps no statistics, it is seen whether its process is there.
    """

    def __init__(self, models: Mapping[str, ServedModel], timeout_s: float = 1.0) -> None:
        self.last: dict[str, EngineStats] = {}
        self.up = dict.fromkeys(models, False)
        self._models = models
        self._timeout_s = timeout_s
        self._asked: dict[str, asyncio.Task[EngineStats]] = {}

    async def refresh(self) -> None:
        """Ask all engines, and wait at most ``timeout_s``."""
        asked: dict[str, asyncio.Task[EngineStats]] = {}
        for name, model in self._models.items():
            if model.generates:
                task = self._asked.get(name)
                # One that has an answer by now is of the past, and perhaps of an engine that is gone.
                asked[name] = self._ask(name, model) if task is None or task.done() else task
            else:
                self.up[name] = model.is_running
        if asked:
            await asyncio.wait(asked.values(), timeout=self._timeout_s)
        for name, task in asked.items():
            self.up[name] = task.done() and not task.cancelled() and task.exception() is None
            if self.up[name]:
                self.last[name] = task.result()
            if task.done() and self._asked.get(name) is task:
                del self._asked[name]

    def _ask(self, name: str, model: ServedModel) -> asyncio.Task[EngineStats]:
        task = self._asked[name] = asyncio.create_task(model.stats())
        task.add_done_callback(_look_at)
        return task


def _look_at(task: asyncio.Task[EngineStats]) -> None:
    """Whoever asked may have gone, and an error that nobody looks at is reported as forgotten."""
    if not task.cancelled():
        task.exception()
