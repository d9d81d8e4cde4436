"""Workers that stay while the next case needs them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.peers.engine import Engine, Setting
from bench.worker import Worker


@dataclass(frozen=True, slots=True)
class Wanted:
    """An engine with a setting and a model of its form."""

    engine: Engine
    setting: Setting
    model: Path

    @property
    def key(self) -> tuple[str, ...]:
        """The same for the same worker."""
        return (self.engine.module, self.setting.name, str(self.model), *self.engine.options)


class WorkerPool:
    """Running workers. Use it as a context manager."""

    def __init__(self, start: Callable[[Wanted], Worker]) -> None:
        self._start = start
        self._running: dict[tuple[str, ...], Worker] = {}

    def take(self, *wanted: Wanted) -> list[Worker]:
        """Workers for all that is wanted, and none besides. Raises what starting one raises."""
        keys = {each.key for each in wanted}
        for key in self._running.keys() - keys:
            self._running.pop(key).close()
        for each in wanted:
            if each.key not in self._running:
                self._running[each.key] = self._start(each)
        return [self._running[each.key] for each in wanted]

    def close(self) -> None:
        """End all of them; the pool can be used on."""
        while self._running:
            self._running.popitem()[1].close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
