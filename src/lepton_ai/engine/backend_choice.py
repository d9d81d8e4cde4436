"""Which backend runs a model, and on what."""

from __future__ import annotations

from dataclasses import dataclass

from lepton_ai.backends.base import Backend
from lepton_ai.config import Environment
from lepton_ai.engine.load_options import LoadOptions
from lepton_ai.errors import InvalidRequest
from lepton_ai.weights.packed import PackedCache


@dataclass(frozen=True, slots=True)
class ChosenDevice:
    """A backend with the threads it uses and the name of its instruction set."""

    backend: Backend
    num_threads: int
    isa: str


def choose_device(options: LoadOptions, environment: Environment) -> ChosenDevice:
    """The backend called ``options.backend`` on its device. Raises InvalidRequest, HardwareUnsupported."""
    match options.backend:
        case "cpu":
            from lepton_ai.backends.cpu.backend import CpuBackend
            from lepton_ai.engine.device import tuned_cpu

            shared = options.device
            device = tuned_cpu(environment, options.num_threads) if shared is None else shared.cpu
            cache = PackedCache(environment.home)
            backend = CpuBackend(device, cache=cache, progress=options.progress, on_phase=options.on_phase)
            return ChosenDevice(backend, device.num_threads, device.isa)
        case "reference":
            from lepton_ai.backends.reference.backend import ReferenceBackend

            return ChosenDevice(ReferenceBackend(), 1, "numpy")
        case other:
            raise InvalidRequest(f"backend: expected cpu or reference, got {other!r}", param="backend")
