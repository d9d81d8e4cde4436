"""What models of one process share: threads and memory."""

from __future__ import annotations

from lepton_ai.backends.cpu.device import CpuDevice
from lepton_ai.config import Environment


class Device:
    """The CPU with a budget of memory, for any number of models: ``LLM(..., device=device)``.

    Steps of models take turns, each with all threads, where models with threads of their own would get in each other's
    way. ``num_threads`` None takes the cores that this process may use. ``memory_bytes`` is what weights and KV caches
    may take together; None: what the machine has to spare when a model is loaded.

    Raises InvalidRequest for a number out of range, HardwareUnsupported for an instruction set (``LEPTON_CPU_ISA``)
    that the machine lacks.
    """

    def __init__(self, *, num_threads: int | None = None, memory_bytes: int | None = None) -> None:
        environment = Environment.read()
        threads = environment.num_threads if num_threads is None else num_threads
        self.cpu = CpuDevice(num_threads=threads, isa=environment.cpu_isa, memory_bytes=memory_bytes)
