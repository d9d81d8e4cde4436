"""What models of one process share: threads and memory."""

from __future__ import annotations

from lepton_ai.backends.cpu.device import CpuDevice, choose_isa
from lepton_ai.backends.cpu.tuned_host import tuning_in_force
from lepton_ai.config import Environment


class Device:
    """The CPU with a budget of memory, for any number of models: ``LLM(..., device=device)``.

    Steps of models take turns, each with all threads, where models with threads of their own would get in each other's
    way. ``num_threads`` None takes what ``lepton tune`` found, else the cores that this process may use.
    ``memory_bytes`` is what weights and KV caches may take together; None: what the machine has to spare when a model
    is loaded.

    Raises InvalidRequest for a number out of range, HardwareUnsupported for an instruction set (``LEPTON_CPU_ISA``)
    that the machine lacks.
    """

    def __init__(self, *, num_threads: int | None = None, memory_bytes: int | None = None) -> None:
        environment = Environment.read()
        threads = environment.num_threads if num_threads is None else num_threads
        self.cpu = tuned_cpu(environment, threads, memory_bytes=memory_bytes)


def tuned_cpu(environment: Environment, num_threads: int | None, *, memory_bytes: int | None = None) -> CpuDevice:
    """The CPU as ``lepton tune`` found it to be fastest, or by default. Raises like ``Device``."""
    isa = choose_isa(environment.cpu_isa)
    found = tuning_in_force(environment.home, isa)
    threads = found.num_threads if num_threads is None else num_threads
    return CpuDevice(num_threads=threads, isa=isa, memory_bytes=memory_bytes, tuning=found.tuning)
