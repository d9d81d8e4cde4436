"""The machine and what runs on it, as the page says it."""

from __future__ import annotations

from dataclasses import dataclass

from lepton_ai.cli.machine import read_memory, read_processor


@dataclass(frozen=True, slots=True)
class Host:
    """What rates depend on that no engine brings along."""

    processor: str
    architecture: str
    num_cores: int
    isas: tuple[str, ...]
    memory_bytes: int


def read_host() -> Host:
    """This machine, and the cores of it that this process may use."""
    processor = read_processor()
    return Host(
        processor=processor.name,
        architecture=processor.architecture,
        num_cores=processor.num_allowed_cores,
        isas=processor.available_isas,
        memory_bytes=read_memory().total_bytes,
    )
