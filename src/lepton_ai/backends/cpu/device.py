"""The CPU as a device: instruction set and threads, made once and shared by every executable of a process."""

from __future__ import annotations

from weakref import WeakValueDictionary

from lepton_ai.backends.cpu import _native
from lepton_ai.backends.cpu.cores import usable_cores
from lepton_ai.backends.cpu.memory import MemoryBudget
from lepton_ai.backends.cpu.panel_memory import PanelMemory
from lepton_ai.backends.cpu.tuning import Tuning
from lepton_ai.errors import HardwareUnsupported, InvalidRequest
from lepton_ai.weights.packed_format import PackedKey

MAX_THREADS = 256

MEASURED_ISAS = frozenset(("amx", "avx512vnni", "avx2", "generic"))
"""Instruction sets that were measured to be faster than those below them, on machines that have them; ``generic`` has
none below it. The others run where they are asked for.
"""

BYTE_PRODUCT_ISAS = frozenset(("amx", "avx512vnni"))
"""Those on which attention by products of bytes was measured to be faster than by halves."""

BF16_TILE_ISAS = frozenset(("amx",))
"""Those whose tiles multiply bf16."""


def choose_isa(requested: str | None) -> str:
    """The instruction set to use: ``requested``, or the best that this machine has of those in MEASURED_ISAS.

    Raises HardwareUnsupported if the machine or this build lacks the requested one.
    """
    available = _native.available_isas()
    if requested is None:
        return next(isa for isa in available if isa in MEASURED_ISAS)
    if requested not in available:
        raise HardwareUnsupported(
            f"isa: expected one of {', '.join(available)} on this machine, got {requested!r}", param="isa"
        )
    return requested


class CpuDevice:
    """Threads with their kernels, and the memory they work on. One step runs at a time; whoever runs one holds the
    device for it.

    ``memory`` counts what models take of it. ``panels`` are packed weights by what they were made of: models with the
    same weights share them. ``tuning`` None is the instruction set's own.
    """

    def __init__(
        self,
        *,
        num_threads: int | None = None,
        isa: str | None = None,
        memory_bytes: int | None = None,
        tuning: Tuning | None = None,
    ) -> None:
        if num_threads is not None and not 1 <= num_threads <= MAX_THREADS:
            raise InvalidRequest(f"num_threads: expected 1 ... {MAX_THREADS}, got {num_threads}", param="num_threads")
        self.num_threads = num_threads or usable_cores()
        self.isa = choose_isa(isa)
        self.memory = MemoryBudget(memory_bytes)
        self.panels: WeakValueDictionary[PackedKey, PanelMemory] = WeakValueDictionary()
        self.tuning = tuning or Tuning.default(self.isa)
        self.tuning.check(self.isa)
        self.native = _native.CpuDevice(
            num_threads=self.num_threads, isa=self.isa, scratch_bytes=1 << 20, tuning=self.tuning.native
        )

    def measure_read_bandwidth(self, num_bytes: int = 256 << 20) -> float:
        """Bytes a second that all threads together read from memory."""
        return self.native.measure_read_bandwidth(num_bytes)
