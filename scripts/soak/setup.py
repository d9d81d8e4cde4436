"""What all parts of the soak share: which servers, which requests, how progress is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType

from rich.progress import Progress
from scripts.soak.requests import MAX_BODY, MAX_MODEL_LEN, Writer

LONG_RUN = 1000
"""Requests, from which on memory is looked at: in a shorter run it has not settled."""

_UNBOUNDED: Mapping[str, object] = MappingProxyType({"max_waiting": 1000, "idle_timeout": 3600, "max_body": MAX_BODY})


@dataclass(frozen=True, slots=True)
class Setup:
    """``num_alone`` requests of the mixed load are asked again, alone; ``num_after`` after a crash."""

    model: str
    encoder: str
    kv_mib: int
    num_requests: int
    num_alone: int
    num_after: int
    num_clients: int
    seed: int
    writer: Writer
    progress: Progress

    @property
    def is_long(self) -> bool:
        """Whether memory has time to settle."""
        return self.num_requests >= LONG_RUN

    def arguments(self, **more: object) -> list[str]:
        """Of a server with little memory, and no bound that a test does not set: ``max_waiting=8`` and the like."""
        options = {**_UNBOUNDED, "max_num_seqs": 16, "kv_memory": f"{self.kv_mib}MiB", "max_model_len": MAX_MODEL_LEN}
        return [self.model, *_flags(options | more)]

    def encoder_arguments(self) -> list[str]:
        """Of a server with the encoder, which keeps no KV."""
        return [self.encoder, *_flags(_UNBOUNDED)]

    @contextmanager
    def bar(self, label: str, total: int) -> Iterator[Callable[[], None]]:
        """A bar of the progress, with the time that is left; what it gives moves it by one."""
        task = self.progress.add_task(label, total=total)
        yield lambda: self.progress.advance(task)
        self.progress.update(task, completed=total)


def _flags(options: Mapping[str, object]) -> list[str]:
    return [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
