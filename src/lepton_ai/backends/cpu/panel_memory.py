"""The memory in which a model's panels lie."""

from __future__ import annotations

import weakref

import numpy as np
import numpy.typing as npt

from lepton_ai.backends.cpu import _native
from lepton_ai.backends.cpu.memory import MemoryBudget
from lepton_ai.huge_pages import kernel_gives_them
from lepton_ai.weights.packed import PackedFile

_PURPOSE = "the weights of a model"


class PanelMemory:
    """``data`` ``[n]`` u8, counted by ``budget`` until this object is gone.

    Either zeros in huge pages, to be filled; or a packed file, mapped. What is mapped is there at once, but in small
    pages, as a rule: they are moved into huge ones by a thread of their own before the first step, and by ``settle``.
    """

    def __init__(self, budget: MemoryBudget, num_bytes: int) -> None:
        self.data: npt.NDArray[np.uint8] = budget.zeros(num_bytes, _PURPOSE)
        self._mapped: _native.MappedPanels | None = None

    @classmethod
    def map(cls, budget: MemoryBudget, packed: PackedFile, *, begins: bool) -> PanelMemory:
        """The payload of ``packed``, which may be closed then. Raises OutOfMemory, and OSError if it cannot be mapped.

        ``begins`` starts the thread, which would only delay the first step where there is one core. Who cuts the file
        while it is mapped ends the process.
        """
        memory = cls.__new__(cls)
        layout = packed.layout
        budget.take(layout.payload_bytes, _PURPOSE)
        weakref.finalize(memory, budget.give_back, layout.payload_bytes)
        mapped = _native.MappedPanels(
            descriptor=packed.descriptor, offset=layout.payload_offset, num_bytes=layout.payload_bytes
        )
        memory.data = mapped.data  # which keeps ``mapped``
        memory._mapped = mapped if kernel_gives_them() else None
        if begins and memory._mapped:
            mapped.begin()
        return memory

    @property
    def num_bytes(self) -> int:
        """Its size."""
        return self.data.nbytes

    @property
    def is_settled(self) -> bool:
        """Whether there is nothing to move."""
        return self._mapped is None

    def settle(self, seconds: float) -> None:
        """Move parts of it into huge pages, in as many seconds as all calls grant together; the thread ends.

        Others may read it meanwhile.
        """
        if self._mapped is not None and self._mapped.settle(seconds):
            self._mapped = None
