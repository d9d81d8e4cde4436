"""A checkpoint whose layers are several tensors each, as one tensor a layer."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from lepton_ai.errors import InvalidModel, WeightMismatch
from lepton_ai.weights.files import shown
from lepton_ai.weights.integer_layer import IntegerLayer, LayerRows
from lepton_ai.weights.layer_tensors import LayerTensors
from lepton_ai.weights.safetensors import RawTensor
from lepton_ai.weights.store import StoredTensor, WeightStore


class RawStore(WeightStore, Protocol):
    """A weight store that has tensors of any type."""

    def raw(self, name: str) -> RawTensor:
        """One tensor of whatever type. Raises WeightMismatch if there is none of this name."""
        ...


class Scheme(Protocol):
    """A way to quantise layers. Its ``repr`` says all of it."""

    @property
    def endings(self) -> tuple[str, ...]:
        """What follows a layer's name in the names of its tensors; the first makes it a quantised layer."""
        ...

    def layer(self, tensors: LayerTensors) -> IntegerLayer:
        """The layer that ``tensors`` make. Raises InvalidModel and UnsupportedModel."""
        ...


@dataclass(frozen=True, slots=True)
class _Layer:
    layer: IntegerLayer
    members: tuple[str, ...]


class QuantizedStore:
    """``store``, each layer that ``scheme`` quantised as its matrix ``<layer>.weight``; it implements ``WeightStore``.

    A layer is quantised if its tensors are there; what is not stays as it is. ``unquantized`` are names of layers that
    the checkpoint says are not. All tensors of all layers are checked here, and read when a matrix is.

    Raises InvalidModel, UnsupportedModel, and WeightMismatch for a layer with its matrix beside it.
    """

    def __init__(self, store: RawStore, scheme: Scheme, *, unquantized: Collection[str] = ()) -> None:
        self._store = store
        self._scheme = scheme
        present = set(store.names())
        mark = f".{scheme.endings[0]}"
        self._layers: dict[str, _Layer] = {}
        for name in (name.removesuffix(mark) for name in store.names() if name.endswith(mark)):
            if name in unquantized:
                raise InvalidModel(
                    f"{shown(name)}: expected a layer that is not quantised, got {mark[1:]}", param="model"
                )
            members = {ending: whole for ending in scheme.endings if (whole := f"{name}.{ending}") in present}
            if "weight" not in members and f"{name}.weight" in present:
                raise WeightMismatch(f"{shown(name)}: expected weight or {mark[1:]}, got both", param="model")
            raw = {ending: store.raw(whole) for ending, whole in members.items()}
            self._layers[f"{name}.weight"] = _Layer(scheme.layer(LayerTensors(name, raw)), tuple(members.values()))
        hidden = {member for layer in self._layers.values() for member in layer.members}
        self._names = (*self._layers, *(name for name in store.names() if name not in hidden))

    @property
    def digest(self) -> str:
        """That of the checkpoint, and after a hyphen one of the scheme, which is not in its tensors."""
        return f"{self._store.digest}-{hashlib.sha256(repr(self._scheme).encode()).hexdigest()[:16]}"

    def names(self) -> Sequence[str]:
        """Names of all tensors, quantised layers first."""
        return self._names

    def get(self, name: str) -> StoredTensor:
        """One tensor, without reading it. Raises WeightMismatch if there is none of this name."""
        if (found := self._layers.get(name)) is None:
            return self._store.get(name)
        form = found.layer.form
        shape = (form.num_outputs, form.num_inputs)
        return StoredTensor(name, shape, form.type, LayerRows(found.layer, 0, form.num_outputs))

    def release(self, name: str) -> None:
        """Drop the pages of all tensors that make this one."""
        found = self._layers.get(name)
        for member in found.members if found else (name,):
            self._store.release(member)
