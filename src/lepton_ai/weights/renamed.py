"""A checkpoint's tensors under the names that models use, split and turned where the checkpoint joins or turns them.

Names here are patterns: ``{}`` stands for a layer's number, and what follows stays: ``.weight``, ``.bias``, or what
old checkpoints call them in norms, ``.gamma`` and ``.beta``. One tensor of a file may become several, its rows (or
columns, if ``is_transposed``) shared out evenly.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from lepton_ai.errors import InvalidModel, WeightMismatch
from lepton_ai.weights.store import Columns, StoredTensor, WeightStore

_OLD_ENDINGS: Final[Mapping[str, str]] = {".gamma": ".weight", ".beta": ".bias"}


@dataclass(frozen=True, slots=True)
class Rename:
    """Tensors whose name is ``source`` become ``targets``, in this order along the outputs.

    ``is_transposed``: matrices lie as ``(inputs, outputs)`` in the file. Vectors are only shared out.
    """

    source: str
    targets: tuple[str, ...]
    is_transposed: bool = False


@dataclass(frozen=True, slots=True)
class _Place:
    """Part ``index`` of ``count`` of a tensor of the file."""

    source: str
    index: int
    count: int
    is_transposed: bool


class RenamedStore:
    """``store`` under other names; it implements ``WeightStore``.

    ``prefixes`` may stand before every name of the file. Names that match a pattern of ``ignored`` are left out; names
    that match nothing keep the name that they have, so that strict loading reports them.
    Raises WeightMismatch if two tensors come out under one name.
    """

    def __init__(
        self,
        store: WeightStore,
        renames: Sequence[Rename],
        *,
        ignored: Iterable[str] = (),
        prefixes: Sequence[str] = (),
    ) -> None:
        self._store = store
        self._places: dict[str, _Place] = {}
        patterns = [(_compile(rename.source), rename) for rename in renames]
        left_out = [_compile(pattern) for pattern in ignored]
        for name in store.names():
            bare = next((name.removeprefix(p) for p in prefixes if name.startswith(p)), name)
            if any(pattern.fullmatch(bare) for pattern in left_out):
                continue
            for target, place in _targets(name, bare, patterns):
                if target in self._places:
                    twice = f"{self._places[target].source} and {name}"
                    raise WeightMismatch(f"weights: expected one tensor for {target}, got {twice}", param="model")
                self._places[target] = place

    @property
    def digest(self) -> str:
        """That of the checkpoint: its names follow from its content and its architecture."""
        return self._store.digest

    def names(self) -> Sequence[str]:
        """New names, in the order of the file."""
        return tuple(self._places)

    def get(self, name: str) -> StoredTensor:
        """One tensor. Raises WeightMismatch if there is none of this name, InvalidModel if it cannot be shared out."""
        place = self._place(name)
        whole = self._store.get(place.source)
        # Rows that are made are those of the matrix, however its file has it.
        is_turned = place.is_transposed and len(whole.shape) == 2 and isinstance(whole.stored, np.ndarray)
        shape = whole.shape[::-1] if is_turned else whole.shape
        if not shape or shape[0] % place.count or (is_turned and whole.type.block_elements > 1):
            expected = f"a matrix or vector of {place.count} equal parts"
            raise InvalidModel(f"{place.source}: expected {expected}, got shape {whole.shape}", param="model")
        if is_turned:
            num_outputs = shape[0] // place.count
            columns = Columns(num_outputs * place.index, shape[0])
            return StoredTensor(name, (num_outputs, shape[1]), whole.type, whole.stored, columns)
        return whole.share(place.index, place.count, name)

    def release(self, name: str) -> None:
        """Drop the pages of the whole tensor that this one is part of."""
        self._store.release(self._place(name).source)

    def _place(self, name: str) -> _Place:
        try:
            return self._places[name]
        except KeyError:
            raise WeightMismatch(f"weights: expected a tensor {name}, got none", param="model") from None


def _compile(pattern: str) -> re.Pattern[str]:
    return re.compile(re.escape(pattern).replace(r"\{\}", r"(\d{1,4})") + r"(\.weight|\.bias|\.gamma|\.beta|)")


def _targets(name: str, bare: str, patterns: Sequence[tuple[re.Pattern[str], Rename]]) -> Iterable[tuple[str, _Place]]:
    for pattern, rename in patterns:
        if match := pattern.fullmatch(bare):
            *numbers, ending = match.groups()
            for index, target in enumerate(rename.targets):
                place = _Place(name, index, len(rename.targets), rename.is_transposed)
                yield target.format(*numbers) + _OLD_ENDINGS.get(ending, ending), place
            return
    yield name, _Place(name, 0, 1, is_transposed=False)


def one_to_one(names: Mapping[str, str]) -> list[Rename]:
    """Renames of tensors that are neither split nor turned."""
    return [Rename(source, (target,)) for source, target in names.items()]
