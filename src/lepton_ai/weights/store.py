"""The weight store: the tensors of one checkpoint, by name, as they are stored."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from lepton_ai.errors import WeightMismatch
from lepton_ai.graph.tensor import Weight
from lepton_ai.weights.formats import WeightType


@dataclass(frozen=True, slots=True)
class Columns:
    """Where the rows of a matrix are columns in its file: from column ``first`` on, of ``total``."""

    first: int
    total: int


class RowSource(Protocol):
    """Rows of a matrix that do not lie in its file as its type has them: they are made when they are read."""

    def part(self, first: int, count: int) -> RowSource:
        """``count`` of these rows, from ``first`` on."""
        ...

    def read(self) -> npt.NDArray[np.uint8]:
        """The bytes of all rows, one after the other."""
        ...


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor as it lies in a file. ``stored`` is its raw bytes, a read-only view of the map, or what makes them.

    ``shape`` is row-major (outermost first), whatever order the file uses. With ``columns``, ``stored`` is the bytes of
    the whole transposed matrix, of an unquantised type.
    """

    name: str
    shape: tuple[int, ...]
    type: WeightType
    stored: npt.NDArray[np.uint8] | RowSource
    columns: Columns | None = None

    @property
    def num_bytes(self) -> int:
        """Bytes of the tensor itself."""
        return math.prod(self.shape) // self.type.block_elements * self.type.block_bytes

    @property
    def data(self) -> npt.NDArray[np.uint8]:
        """Raw bytes, row after row: a view of the map, or a copy of this tensor where its file has it otherwise."""
        if not isinstance(self.stored, np.ndarray):
            return self.stored.read()
        if self.columns is None:
            return self.stored
        num_outputs, num_inputs = self.shape
        matrix = self.stored.reshape(num_inputs, self.columns.total, self.type.block_bytes)
        rows = matrix[:, self.columns.first : self.columns.first + num_outputs].transpose(1, 0, 2)
        return np.ascontiguousarray(rows).reshape(-1)

    def share(self, index: int, count: int, name: str) -> StoredTensor:
        """Number ``index`` of ``count`` equal shares of the rows, as a tensor of its own."""
        assert self.columns is None and self.shape[0] % count == 0
        num_rows, size = self.shape[0] // count, self.num_bytes // count
        stored = (
            self.stored[size * index : size * (index + 1)]
            if isinstance(self.stored, np.ndarray)
            else self.stored.part(num_rows * index, num_rows)
        )
        return StoredTensor(name, (num_rows, *self.shape[1:]), self.type, stored)


class WeightStore(Protocol):
    """Read access to the tensors of a checkpoint."""

    @property
    def digest(self) -> str:
        """Hex digest of the content, the identity of the packed cache."""
        ...

    def names(self) -> Sequence[str]:
        """Names of all tensors, in file order."""
        ...

    def get(self, name: str) -> StoredTensor:
        """One tensor. Raises WeightMismatch if there is none of this name."""
        ...

    def release(self, name: str) -> None:
        """Drop the pages of a tensor that was copied; a later access reads them again."""
        ...


def check_strict(store: WeightStore, wanted: Iterable[Weight], ignorable: Iterable[str] = ()) -> None:
    """Raise WeightMismatch naming every missing, unexpected or mis-shaped tensor.

    ``wanted`` are the graph's weights; ``ignorable`` are exact names that the model declares as unused.
    """
    present, ignored = set(store.names()), set(ignorable)
    problems: list[str] = []
    expected: set[str] = set()
    for weight in wanted:
        expected.add(weight.name)
        if weight.name not in present:
            problems.append(f"missing {weight.name} {weight.shape}")
        elif (shape := store.get(weight.name).shape) != weight.shape:
            problems.append(f"{weight.name} has shape {shape}, expected {weight.shape}")
    problems += [f"unexpected {name}" for name in store.names() if name not in expected | ignored]
    if problems:
        shown = "; ".join(problems[:8]) + (f"; and {len(problems) - 8} more" if len(problems) > 8 else "")
        raise WeightMismatch(f"weights do not match the architecture: {shown}", param="model")
